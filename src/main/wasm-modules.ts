import { access } from "node:fs/promises";
import { fileURLToPath } from "node:url";

/** Paths of the WebAssembly modules; each is looked for when it is first needed. */
export interface WasmModules {
  readonly kustomize: () => Promise<string>;
  readonly cel: () => Promise<string>;
}

/** Beside the program in a release; in a checkout built from `tools/` and cached. */
export function wasmModules(onProgress: (line: string) => void): WasmModules {
  const find = (name: string, build: () => Promise<string>): (() => Promise<string>) => {
    let found: Promise<string> | undefined;
    return () => {
      found ??= beside(name).catch(build);
      // A build that failed, for want of Go say, may work the next time.
      found.catch(() => (found = undefined));
      return found;
    };
  };
  return {
    kustomize: find("kustomize.wasm", async () => (await import("../dev/tools.ts")).kustomizeWasm({ onProgress })),
    cel: find("cel.wasm", async () => (await import("../dev/tools.ts")).celWasm({ onProgress })),
  };
}

async function beside(name: string): Promise<string> {
  const path = fileURLToPath(new URL(`./${name}`, import.meta.url));
  await access(path);
  return path;
}
