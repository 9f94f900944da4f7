import { expect, test } from "vitest";
import { wasm } from "../compute/web-assembly.ts";
import { withMemoryMaximum } from "./wasm-memory.ts";

// (module (memory (export "m") 1) (func (export "grow") (param i32) (result i32) local.get 0 memory.grow))
const header = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
const types = [1, 6, 1, 0x60, 1, 0x7f, 1, 0x7f];
const functions = [3, 2, 1, 0];
const exported = [7, 12, 2, 1, 0x6d, 2, 0, 4, 0x67, 0x72, 0x6f, 0x77, 0, 0];
const code = [10, 8, 1, 6, 0, 0x20, 0, 0x40, 0, 0x0b];

function moduleWith(memory: readonly number[]): Uint8Array {
  return Uint8Array.from([...header, ...types, ...functions, ...memory, ...exported, ...code]);
}

test("a module's memory grows to its maximum and no further", () => {
  const bytes = withMemoryMaximum(moduleWith([5, 3, 1, 0, 1]), 200);
  const { grow } = new wasm.Instance(new wasm.Module(bytes), {}).exports;
  // What the module above exports.
  const growBy = grow as (pages: number) => number;
  expect(growBy(199)).toBe(1);
  expect(growBy(1)).toBe(-1);
});

test.each([
  ["no memory", []],
  ["a maximum already", [5, 4, 1, 1, 1, 9]],
  ["a larger minimum", [5, 4, 1, 0, 0xac, 0x02]],
])("refuses a module with %s", (_what, memory) => {
  expect(() => withMemoryMaximum(moduleWith(memory), 200)).toThrow(RangeError);
});
