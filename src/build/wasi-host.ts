import { randomFillSync } from "node:crypto";
import { wasm, type WasmFunction, type WasmMemory, type WasmModule } from "../compute/web-assembly.ts";
import { BuildError } from "./build-error.ts";
import type { WasiTree } from "./wasi-tree.ts";

/** Error numbers of wasi_snapshot_preview1. */
const errno = {
  ok: 0,
  badf: 8,
  inval: 28,
  isdir: 31,
  noent: 44,
  nosys: 52,
  notdir: 54,
  notsup: 58,
  rofs: 69,
  notcapable: 76,
};
const fileTypes = { character: 2, directory: 3, file: 4 };
/** The descriptor of the tree, the first after standard input, output and error. */
const treeDescriptor = 3;
const writing = { rights: 0x40n, flags: 0b1001 };

type Descriptor =
  | { readonly kind: "stream"; readonly chunks: Uint8Array[]; bytes: number }
  | { readonly kind: "file"; readonly path: string; readonly bytes: Uint8Array; offset: number }
  | { readonly kind: "directory"; readonly path: string; readonly names: readonly string[] };

/** Thrown through the program to end it. */
class ProgramExit extends Error {
  readonly code: number;
  constructor(code: number) {
    super(`exit ${code}`);
    this.code = code;
  }
}

export interface ProgramRun {
  readonly args: readonly string[];
  /** All the program sees of files, mounted read-only at `mount`. */
  readonly tree: WasiTree;
  /** Absolute path; nothing exists beside or above it. */
  readonly mount: string;
  /** Largest output, in bytes. */
  readonly mostOutputBytes: number;
}

export interface ProgramResult {
  readonly code: number;
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
}

/**
 * Runs a wasip1 command to its end, on the calling thread. It has no environment, no network, no clock but a monotonic
 * one, no way to write, and no files but the tree: what is not implemented here does not exist for it.
 *
 * @throws {BuildError} from the tree, or `Limit` for too much output
 * @throws {Error} WebAssembly's RuntimeError, when the program traps
 */
export function runProgram(module: WasmModule, run: ProgramRun): ProgramResult {
  const host = new Host(run);
  const instance = new wasm.Instance(module, { wasi_snapshot_preview1: host.imports() });
  const { memory, _start: start } = instance.exports;
  if (!(memory instanceof wasm.Memory) || typeof start !== "function") throw new TypeError("not a wasip1 command");
  host.memory = memory;
  let code = 0;
  try {
    // An export of the module: WebAssembly's start function takes and returns nothing.
    (start as () => void)();
  } catch (error) {
    if (!(error instanceof ProgramExit)) throw error;
    code = error.code;
  }
  return { code, stdout: host.stdout(), stderr: host.stderr() };
}

class Host {
  memory: WasmMemory | undefined;
  readonly #run: ProgramRun;
  readonly #args: readonly Uint8Array[];
  readonly #mount: Uint8Array;
  readonly #out: Extract<Descriptor, { kind: "stream" }> = { kind: "stream", chunks: [], bytes: 0 };
  readonly #err: Extract<Descriptor, { kind: "stream" }> = { kind: "stream", chunks: [], bytes: 0 };
  readonly #open = new Map<number, Descriptor>();
  #lastDescriptor = treeDescriptor;

  constructor(run: ProgramRun) {
    this.#run = run;
    this.#args = run.args.map((arg) => Buffer.from(`${arg}\0`));
    this.#mount = Buffer.from(run.mount);
    this.#open.set(0, { kind: "file", path: "", bytes: new Uint8Array(), offset: 0 });
    this.#open.set(1, this.#out);
    this.#open.set(2, this.#err);
    this.#open.set(treeDescriptor, { kind: "directory", path: "", names: [] });
  }

  stdout(): Uint8Array {
    return Buffer.concat(this.#out.chunks);
  }

  stderr(): Uint8Array {
    return Buffer.concat(this.#err.chunks);
  }

  /** The functions by their wasi_snapshot_preview1 names. */
  imports(): Readonly<Record<string, WasmFunction>> {
    const readOnly = (): number => errno.rofs;
    return {
      sched_yield: () => errno.ok,
      proc_exit: (code: number) => {
        throw new ProgramExit(code);
      },
      args_sizes_get: (count: number, bytes: number) => {
        this.#view().setUint32(count, this.#args.length, true);
        this.#view().setUint32(
          bytes,
          this.#args.reduce((sum, arg) => sum + arg.byteLength, 0),
          true,
        );
        return errno.ok;
      },
      args_get: (pointers: number, text: number) => this.#writeArgs(pointers, text),
      environ_sizes_get: (count: number, bytes: number) => {
        this.#view().setUint32(count, 0, true);
        this.#view().setUint32(bytes, 0, true);
        return errno.ok;
      },
      environ_get: () => errno.ok,
      clock_time_get: (_id: number, _precision: bigint, time: number) => {
        this.#view().setBigUint64(time, process.hrtime.bigint(), true);
        return errno.ok;
      },
      random_get: (at: number, length: number) => {
        randomFillSync(this.#bytes(at, length));
        return errno.ok;
      },
      poll_oneoff: (subscriptions: number, events: number, count: number, stored: number) =>
        this.#poll({ subscriptions, events, count, stored }),
      fd_write: (fd: number, vectors: number, count: number, written: number) =>
        this.#write(fd, { vectors, count, written }),
      fd_read: (fd: number, vectors: number, count: number, read: number) => this.#read(fd, { vectors, count, read }),
      fd_close: (fd: number) => (this.#open.delete(fd) ? errno.ok : errno.badf),
      fd_readdir: (fd: number, at: number, length: number, cookie: bigint, used: number) =>
        this.#readDirectory(fd, { at, length, cookie: Number(cookie), used }),
      fd_filestat_get: (fd: number, at: number) => this.#statDescriptor(fd, at),
      fd_fdstat_get: (fd: number, at: number) => this.#describe(fd, at),
      fd_fdstat_set_flags: () => errno.notsup,
      fd_prestat_get: (fd: number, at: number) => {
        if (fd !== treeDescriptor) return errno.badf;
        this.#view().setUint32(at, 0, true);
        this.#view().setUint32(at + 4, this.#mount.byteLength, true);
        return errno.ok;
      },
      fd_prestat_dir_name: (fd: number, at: number, length: number) => {
        if (fd !== treeDescriptor) return errno.badf;
        this.#bytes(at, length).set(this.#mount.subarray(0, length));
        return errno.ok;
      },
      path_open: (
        fd: number,
        _lookup: number,
        at: number,
        length: number,
        flags: number,
        rights: bigint,
        _inheriting: bigint,
        _descriptorFlags: number,
        opened: number,
      ) => {
        if ((flags & writing.flags) !== 0 || (rights & writing.rights) !== 0n) return errno.rofs;
        return this.#openPath(this.#path(fd, at, length), opened);
      },
      path_filestat_get: (fd: number, _lookup: number, at: number, length: number, to: number) =>
        this.#statPath(this.#path(fd, at, length), to),
      path_readlink: () => errno.inval,
      path_create_directory: readOnly,
      path_remove_directory: readOnly,
      path_unlink_file: readOnly,
    };
  }

  #view(): DataView {
    // A view dies when the memory grows, so none is kept.
    return new DataView(this.#buffer());
  }

  #bytes(at: number, length: number): Uint8Array {
    return new Uint8Array(this.#buffer(), at >>> 0, length >>> 0);
  }

  #buffer(): ArrayBuffer {
    if (this.memory === undefined) throw new TypeError("the program has no memory yet");
    return this.memory.buffer;
  }

  #writeArgs(pointers: number, text: number): number {
    let at = text;
    for (const [index, arg] of this.#args.entries()) {
      this.#view().setUint32(pointers + 4 * index, at, true);
      this.#bytes(at, arg.byteLength).set(arg);
      at += arg.byteLength;
    }
    return errno.ok;
  }

  /** A path below a directory descriptor; undefined when it leads out. */
  #path(fd: number, at: number, length: number): string | undefined {
    const base = this.#open.get(fd);
    if (base?.kind !== "directory") return undefined;
    const written = Buffer.from(this.#bytes(at, length)).toString("utf8");
    if (written.startsWith("/")) return undefined;
    const parts = `${base.path}/${written}`.split("/").filter((part) => part !== "" && part !== ".");
    return parts.includes("..") ? undefined : parts.join("/");
  }

  #openPath(path: string | undefined, opened: number): number {
    if (path === undefined) return errno.notcapable;
    const found = this.#run.tree.find(path);
    if (found === undefined) return errno.noent;
    const fd = ++this.#lastDescriptor;
    const { tree } = this.#run;
    if (found.kind === "file") this.#open.set(fd, { kind: "file", path, bytes: tree.read(path), offset: 0 });
    else this.#open.set(fd, { kind: "directory", path, names: tree.list(path) });
    this.#view().setUint32(opened, fd, true);
    return errno.ok;
  }

  #read(fd: number, { vectors, count, read }: { vectors: number; count: number; read: number }): number {
    const descriptor = this.#open.get(fd);
    if (descriptor?.kind === "directory") return errno.isdir;
    if (descriptor?.kind !== "file") return errno.badf;
    let total = 0;
    for (const target of this.#vectors(vectors, count)) {
      const piece = descriptor.bytes.subarray(descriptor.offset, descriptor.offset + target.byteLength);
      target.set(piece);
      descriptor.offset += piece.byteLength;
      total += piece.byteLength;
    }
    this.#view().setUint32(read, total, true);
    return errno.ok;
  }

  #write(fd: number, { vectors, count, written }: { vectors: number; count: number; written: number }): number {
    const descriptor = this.#open.get(fd);
    if (descriptor?.kind !== "stream") return errno.badf;
    let total = 0;
    for (const source of this.#vectors(vectors, count)) {
      descriptor.chunks.push(source.slice());
      total += source.byteLength;
    }
    descriptor.bytes += total;
    if (descriptor.bytes > this.#run.mostOutputBytes)
      throw new BuildError("Limit", `Cannot build: it prints more than ${this.#run.mostOutputBytes} bytes`);
    this.#view().setUint32(written, total, true);
    return errno.ok;
  }

  #vectors(vectors: number, count: number): readonly Uint8Array[] {
    const view = this.#view();
    return Array.from({ length: count }, (_, index) => {
      const at = vectors + 8 * index;
      return this.#bytes(view.getUint32(at, true), view.getUint32(at + 4, true));
    });
  }

  #readDirectory(
    fd: number,
    { at, length, cookie, used }: { at: number; length: number; cookie: number; used: number },
  ): number {
    const directory = this.#open.get(fd);
    if (directory?.kind !== "directory") return errno.notdir;
    const target = this.#bytes(at, length);
    let end = 0;
    for (let index = cookie; index < directory.names.length && end < length; index++) {
      const entry = this.#directoryEntry(directory.path, directory.names[index] ?? "", index + 1);
      // The last entry may be cut: the program sees a full buffer and asks again.
      const piece = entry.subarray(0, length - end);
      target.set(piece, end);
      end += piece.byteLength;
    }
    this.#view().setUint32(used, end, true);
    return errno.ok;
  }

  #directoryEntry(directory: string, name: string, next: number): Uint8Array {
    const text = Buffer.from(name);
    const entry = new Uint8Array(24 + text.byteLength);
    const view = new DataView(entry.buffer);
    view.setBigUint64(0, BigInt(next), true);
    view.setUint32(16, text.byteLength, true);
    const found = this.#run.tree.find(directory === "" ? name : `${directory}/${name}`);
    view.setUint8(20, found?.kind === "directory" ? fileTypes.directory : fileTypes.file);
    entry.set(text, 24);
    return entry;
  }

  #statPath(path: string | undefined, at: number): number {
    if (path === undefined) return errno.notcapable;
    const found = this.#run.tree.find(path);
    if (found === undefined) return errno.noent;
    return this.#writeStat(
      at,
      found.kind === "file" ? fileTypes.file : fileTypes.directory,
      found.kind === "file" ? found.bytes : 0,
    );
  }

  #statDescriptor(fd: number, at: number): number {
    const descriptor = this.#open.get(fd);
    if (descriptor === undefined) return errno.badf;
    return this.#writeStat(at, typeOf(descriptor), descriptor.kind === "file" ? descriptor.bytes.byteLength : 0);
  }

  #writeStat(at: number, type: number, size: number): number {
    this.#bytes(at, 64).fill(0);
    this.#view().setUint8(at + 16, type);
    this.#view().setBigUint64(at + 24, 1n, true);
    this.#view().setBigUint64(at + 32, BigInt(size), true);
    return errno.ok;
  }

  #describe(fd: number, at: number): number {
    const descriptor = this.#open.get(fd);
    if (descriptor === undefined) return errno.badf;
    this.#bytes(at, 24).fill(0);
    this.#view().setUint8(at, typeOf(descriptor));
    this.#view().setBigUint64(at + 8, 2n ** 30n - 1n, true);
    this.#view().setBigUint64(at + 16, 2n ** 30n - 1n, true);
    return errno.ok;
  }

  /** Everything is ready at once but a timer, which is slept on: no other thread of the program could run. */
  #poll(o: { subscriptions: number; events: number; count: number; stored: number }): number {
    const view = this.#view();
    let shortestMs = Infinity;
    for (let index = 0; index < o.count; index++) {
      const at = o.subscriptions + 48 * index;
      const timeoutMs = view.getUint8(at + 8) === 0 ? Number(view.getBigUint64(at + 24, true)) / 1e6 : 0;
      shortestMs = Math.min(shortestMs, timeoutMs);
      this.#bytes(o.events + 32 * index, 32).fill(0);
      view.setBigUint64(o.events + 32 * index, view.getBigUint64(at, true), true);
      view.setUint8(o.events + 32 * index + 10, view.getUint8(at + 8));
    }
    if (shortestMs > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Math.min(shortestMs, 1_000));
    view.setUint32(o.stored, o.count, true);
    return errno.ok;
  }
}

function typeOf(descriptor: Descriptor): number {
  if (descriptor.kind === "stream") return fileTypes.character;
  return descriptor.kind === "file" ? fileTypes.file : fileTypes.directory;
}
