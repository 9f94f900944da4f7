import fc from "fast-check";
import { expect, test } from "vitest";
import { sortInTurns } from "./sort-in-turns.ts";

const compare = (one: number, other: number): number => one - other;

test("sorts any number of items", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(fc.nat(50), fc.constantFrom(2_047, 2_048, 2_049, 4_096, 4_097, 10_000, 20_481)),
      fc.nat(),
      async (count, seed) => {
        const items = Uint32Array.from({ length: count }, (_, at) => Math.imul(at + seed, 2_654_435_761) >>> 7);
        const sorted = Uint32Array.from(items).sort();
        await sortInTurns(items, compare);
        expect(items).toEqual(sorted);
      },
    ),
    { numRuns: 40 },
  );
});

test("lets others run meanwhile, and of what it is given a part of a larger array stays where it is", async () => {
  const whole = Uint32Array.from({ length: 30_000 }, (_, at) => 30_000 - at);
  let turns = 0;
  let sorting = true;
  const other = (): void => {
    turns++;
    if (sorting) setImmediate(other);
  };
  setImmediate(other);
  await sortInTurns(whole.subarray(10_000, 20_000), compare);
  sorting = false;
  expect(turns).toBeGreaterThan(8);
  expect([whole[0], whole[9_999], whole[10_000], whole[19_999], whole[20_000]]).toEqual([
    30_000, 20_001, 10_001, 20_000, 10_000,
  ]);
});
