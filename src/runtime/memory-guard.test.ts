import { expect, test } from "vitest";
import { createManualClock } from "../lib/clock.ts";
import { silentLogger } from "../lib/telemetry.ts";
import { createMemoryGuard } from "./memory-guard.ts";

function scene() {
  const clock = createManualClock();
  const said: string[] = [];
  const seen = { used: 0, shed: 0, room: 0, known: true };
  const guard = createMemoryGuard({
    clock,
    logger: { ...silentLogger, warn: (line) => void said.push(`WARN ${line}`), info: (line) => void said.push(line) },
    read: () => (seen.known ? { usedBytes: seen.used, limitBytes: 100 } : undefined),
    shed: () => seen.shed++,
    onRoom: () => seen.room++,
  });
  /** What is used from now on, and the guard has looked. */
  const use = (used: number): void => {
    seen.used = used;
    clock.advance(500);
  };
  return { clock, guard, seen, said, use };
}

test("caches go first, then new work waits, and it begins again when there is room, not a little below", () => {
  const { guard, seen, said, use } = scene();
  use(69);
  expect([guard.pressure, seen.shed]).toEqual([0, 0]);
  use(70);
  expect([guard.pressure, guard.mayBegin(), seen.shed]).toEqual([1, true, 1]);
  use(80);
  expect([guard.pressure, guard.mayBegin()]).toEqual([2, false]);
  use(71);
  expect([guard.pressure, guard.mayBegin(), seen.room]).toEqual([2, false, 0]);
  use(69);
  expect([guard.pressure, guard.mayBegin(), seen.room]).toEqual([0, true, 1]);
  expect(said).toEqual([expect.stringMatching(/^WARN memory is nearly full/), expect.stringMatching(/free again/)]);
});

test("a collection that does not help is repeated every half a minute, and said once", () => {
  const { clock, seen, said, use } = scene();
  for (let look = 0; look < 120; look++) use(95);
  expect(seen.shed).toBe(2);
  expect(said).toHaveLength(1);
  clock.advance(1_000);
  expect(seen.shed).toBe(3);
});

test("without a limit nothing is done, and nothing after its end", () => {
  const { guard, seen, use } = scene();
  seen.known = false;
  use(100);
  expect([guard.pressure, seen.shed]).toEqual([0, 0]);
  seen.known = true;
  guard[Symbol.dispose]();
  use(100);
  expect([guard.pressure, seen.shed]).toEqual([0, 0]);
});
