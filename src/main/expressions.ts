import { createComputePool } from "../compute/pool.ts";
import { type Cel, createCel } from "../engine/facts/cel.ts";
import type { Clock } from "../lib/clock.ts";
import type { WasmModules } from "./wasm-modules.ts";

/** The entry of every worker: a source file, or beside the bundle. */
export const workerUrl = new URL(import.meta.url.endsWith(".ts") ? "./worker.ts" : "./worker.js", import.meta.url);

/** Expressions have workers of their own: no build delays them or admission, and none of them a build. */
export function startExpressions(
  stack: AsyncDisposableStack,
  { modules, clock }: { readonly modules: WasmModules; readonly clock: Clock },
): Cel {
  const compute = stack.use(createComputePool({ clock, workerUrl, size: 2 }));
  return createCel({ compute, module: modules.cel });
}
