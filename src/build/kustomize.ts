import { readFileSync } from "node:fs";
import { wasm, type WasmModule } from "../compute/web-assembly.ts";
import { BuildError } from "./build-error.ts";
import { runProgram, type ProgramResult } from "./wasi-host.ts";
import type { WasiTree } from "./wasi-tree.ts";
import { withMemoryMaximum } from "./wasm-memory.ts";

/** Renderer memory: 256 MiB in pages of 64 KiB (spec 50 §6). */
const mostPages = 4_096;
const mostOutputBytes = 64 * 1024 * 1024;
const mount = "/artifact";

export interface KustomizeRun {
  /** All that can be read. */
  readonly files: WasiTree;
  /** Below the root of the files; empty for the root itself. */
  readonly directory: string;
}

/** Builds kustomizations with the kustomize command compiled to WebAssembly. Compiles once; each run starts afresh. */
export class Kustomize {
  readonly #modulePath: string;
  #module: WasmModule | undefined;

  constructor(modulePath: string) {
    this.#modulePath = modulePath;
  }

  /**
   * The YAML of `kustomize build`, without load restrictions: there is nothing but the files. Blocks the thread.
   *
   * @throws {BuildError} `Kustomize`, `Duplicate`, `Limit`, `Invalid`
   */
  build({ files, directory }: KustomizeRun): Uint8Array {
    this.#module ??= new wasm.Module(withMemoryMaximum(readFileSync(this.#modulePath), mostPages));
    const path = directory === "" ? mount : `${mount}/${directory}`;
    const args = ["kustomize", "build", "--load-restrictor=LoadRestrictionsNone", path];
    const result = this.#run(this.#module, { args, tree: files, mount, mostOutputBytes });
    if (result.code !== 0) throw failure(Buffer.from(result.stderr).toString("utf8"));
    return result.stdout;
  }

  #run(...run: Parameters<typeof runProgram>): ProgramResult {
    try {
      return runProgram(...run);
    } catch (error) {
      // Deep recursion, or memory that the program could not get.
      if (error instanceof wasm.RuntimeError || error instanceof RangeError) throw outOfMemory();
      throw error;
    }
  }
}

function failure(stderr: string): BuildError {
  if (/out of memory|cannot allocate memory|stack overflow|stack exceeds/.test(stderr.slice(0, 2_000)))
    return outOfMemory();
  const told = withoutContent(stderr.slice(0, 65_536).replace(/^Error: /, ""));
  const reason = told.includes("already registered id") ? "Duplicate" : "Kustomize";
  return new BuildError(reason, `Cannot build the kustomization: ${told}`);
}

function outOfMemory(): BuildError {
  return new BuildError("Limit", `Cannot build the kustomization: it needs more than ${mostPages / 16} MiB of memory`);
}

/** The first line of the program's message without what it quotes of files: patches in brackets, scalars in backticks. */
function withoutContent(text: string): string {
  const told = text
    .replaceAll(`${mount}/`, "")
    .replaceAll(mount, ".")
    .replace(/`[^`]*`?/g, "`…`")
    .replace(/\bobject \{\{.*?\}\}/g, "object")
    .replace(/\bfrom \[[^]*/, "from […]")
    .replace(/\[(?!\]|no(?:Grp|Ns|Ver|Kind|Name)\])[^\]]*(?:\]|$)/g, "[…]")
    .replace(/\n[^]*/, "");
  return told.length > 500 ? `${told.slice(0, 500)}…` : told;
}
