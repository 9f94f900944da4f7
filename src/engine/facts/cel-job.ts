import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";
import type { Job } from "../../compute/job.ts";
import { wasm, type WasmImports, type WasmMemory } from "../../compute/web-assembly.ts";
import { asText, at } from "../../lib/json.ts";

/** The evaluator of `tools/cel`: a reactor that takes and gives JSON through its memory. */
interface Evaluator {
  run(request: string): unknown;
}

const loaded = new Map<string, Promise<Evaluator>>();

/** Evaluates one expression; the module stays loaded in its worker. */
export const celJob: Job = async (input) => {
  const module = asText(at(input, "module")) ?? "";
  const evaluator = loaded.get(module) ?? load(module);
  loaded.set(module, evaluator);
  const expression = asText(at(input, "expression")) ?? "";
  const object = asText(at(input, "object"));
  // The object is JSON already: put into the request as it is, big integers keep their digits.
  const request = `{"expression":${JSON.stringify(expression)}${object === undefined ? "" : `,"object":${object}`}}`;
  return { output: (await evaluator).run(request) };
};

async function load(path: string): Promise<Evaluator> {
  const wasi = new WASI({ version: "preview1", args: [], env: {}, preopens: {} });
  const compiled = new wasm.Module(Uint8Array.from(await readFile(path)));
  // Node types its WASI functions as an object of unknown members.
  const imports = { wasi_snapshot_preview1: wasi.wasiImport } as WasmImports;
  const instance = new wasm.Instance(compiled, imports);
  wasi.initialize(instance);
  // The exports of tools/cel/main.go.
  const { memory, alloc, run } = instance.exports as {
    readonly memory: WasmMemory;
    readonly alloc: (size: number) => number;
    readonly run: (size: number) => bigint;
  };
  return {
    run(request) {
      const bytes = Buffer.from(request, "utf8");
      const address = alloc(bytes.byteLength);
      new Uint8Array(memory.buffer).set(bytes, address);
      const packed = BigInt.asUintN(64, run(bytes.byteLength));
      const at = Number(packed >> 32n);
      const length = Number(packed & 0xffffffffn);
      const reply: unknown = JSON.parse(Buffer.from(memory.buffer, at, length).toString("utf8"));
      return reply;
    },
  };
}
