import { describe, expect, test } from "vitest";
import { createJumpingClock } from "../../../test/support/jumping-clock.ts";
import { failure } from "../../domain/failure.ts";
import { createLadderCache, ladderSlot, type LadderFact } from "./ladder-cache.ts";

const ladder: LadderFact = { kind: "ladder", ladder: { rungs: [], origin: "" } };
const refused: LadderFact = { kind: "ladder", refused: failure("MigrationArtifactInvalid", "takes too long") };
const mebibyte = 1024 * 1024;

describe("ladders that are kept", () => {
  test("the least used go beyond 4 MiB of files; all go when memory is short", () => {
    const cache = createLadderCache({ clock: createJumpingClock() });
    for (const slot of ["a", "b", "c"]) cache.keep(slot, ladder, mebibyte);
    expect(cache.get("a")).toBe(ladder);
    cache.keep("d", ladder, mebibyte);
    expect(["a", "b", "c", "d"].filter((slot) => cache.get(slot) !== undefined)).toEqual(["a", "c", "d"]);
    cache.clear();
    expect(["a", "c", "d"].filter((slot) => cache.get(slot) !== undefined)).toEqual([]);
    for (const slot of ["a", "b", "c"]) cache.keep(slot, ladder, mebibyte);
    expect(["a", "b", "c"].filter((slot) => cache.get(slot) !== undefined)).toHaveLength(3);
  });

  test("small ones are bounded too", () => {
    const cache = createLadderCache({ clock: createJumpingClock() });
    for (let each = 0; each < 2_000; each++) cache.keep(`${each}`, refused, 10);
    expect(cache.get("0")).toBeUndefined();
    expect(cache.get("1999")).toBe(refused);
  });

  test("no part of a slot passes for another's", () => {
    expect(ladderSlot(["a", "b c"])).not.toBe(ladderSlot(["a b", "c"]));
  });
});

test("one that took too much is tried again ever more seldom, and not sooner because memory is short", () => {
  const clock = createJumpingClock();
  const cache = createLadderCache({ clock });
  const waited: number[] = [];
  for (let attempt = 0; attempt < 9; attempt++) {
    cache.putOff("a", refused);
    cache.clear();
    let minutes = 0;
    for (; cache.get("a") !== undefined; minutes++) clock.jump(60_000);
    waited.push(minutes);
  }
  expect(waited).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60]);
  cache.keep("a", ladder, 1);
  expect(cache.get("a")).toBe(ladder);
});
