import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Migration } from "../../api/stage-set.ts";
import { at, decide, planOf, run, step } from "../../../test/support/ladder.ts";
import { compareVersions, parseVersion } from "../formats/version.ts";
import { type Rung, rungsOf, stepsOf } from "./migration-ledger.ts";

const boundaries = ["1.0.0", "1.1.0", "1.1.0", "1.2.0-rc.1", "1.2.0", "2.0.0"];
const targets = ["0.9.0", "1.0.0", "1.0.5", "1.1.0", "1.2.0-rc.1", "1.2.0", "1.9.0", "2.0.0", "3.0.0"];
const ladders = fc.uniqueArray(
  fc.record({
    name: fc.constantFrom("a", "b", "c", "d", "e/x", "a@0123456789ab/b"),
    to: fc.constantFrom(...boundaries),
    from: fc.constantFrom(undefined, undefined, "1.x", ">=1.1.0"),
    stage: fc.constantFrom(undefined, "db", "app"),
    up: fc.nat(3),
    down: fc.nat(2),
  }),
  { selector: ({ name }) => name, maxLength: 6 },
);
const moves = fc.array(
  fc.record({
    target: fc.constantFrom(...targets),
    allow: fc.boolean(),
    steps: fc.constantFrom(0, 1, 2, 3, 5, Infinity),
  }),
  { minLength: 1, maxLength: 12 },
);

/** Whether a boundary is at or below a version. */
function isWithin({ to }: Rung, version: string): boolean {
  const parsed = parseVersion(version);
  return parsed !== undefined && compareVersions(to, parsed) <= 0;
}

/** What steps did to the world, which knows nothing of what is on record; counts since the direction last began. */
type Effects = Map<string, { readonly direction: "up" | "down"; readonly count: number; readonly mayBegin?: boolean }>;

function stateOf(effects: Effects, rung: Rung): "up" | "down" | "between" | undefined {
  const done = effects.get(rung.migration.name);
  if (done === undefined) return undefined;
  return done.count === stepsOf(rung, done.direction).length ? done.direction : "between";
}

describe("any sequence of targets and interruptions", () => {
  test("[30.27] applied boundaries are the wanted ones, or a refusal or leftover is reported", () => {
    let ends = 0;
    const property = fc.property(ladders, fc.constantFrom(...targets), moves, (written, initial, sequence) => {
      const migrations = written.map(({ name, to, from, stage, up, down }): Migration => ({
        name,
        to,
        ...(from === undefined ? {} : { from }),
        ...(stage === undefined ? {} : { stage }),
        actions: Array.from({ length: up }, (_, index) => step(`s${index}`)),
        down: Array.from({ length: down }, (_, index) => step(`s${index}`)),
      }));
      const effects: Effects = new Map();
      let world = at(initial);
      for (const { target, allow, steps } of sequence) {
        const decision = decide(world, target, { migrations, rules: { allowDowngrade: allow } });
        if (decision.kind === "refused") {
          expect(["DowngradeNotAllowed", "DowngradeRequiresMigration"]).toContain(decision.reason);
          continue;
        }
        const unwound: Rung[] = [];
        const effect = (rung: Rung, direction: "up" | "down"): void => {
          const before = effects.get(rung.migration.name);
          const count = before?.direction === direction && before.mayBegin !== true ? before.count + 1 : 1;
          // What is on record is not repeated.
          expect(count).toBeLessThanOrEqual(stepsOf(rung, direction).length);
          effects.set(rung.migration.name, { direction, count });
          if (direction === "down") unwound.push(rung);
        };
        // Also a direction without steps is gone in.
        const completed = ({ migration: { name } }: Rung, direction: "up" | "down"): void => {
          if (effects.get(name)?.direction !== direction) effects.set(name, { direction, count: 0 });
        };
        const { world: next, ended } = run(world, decision, { migrations, steps, effect, completed });
        world = next;
        for (const [index, rung] of unwound.entries())
          expect(compareVersions(rung.to, unwound[index + 1]?.to ?? rung.to)).toBeGreaterThanOrEqual(0);
        if (!ended) continue;
        ends++;
        const leftovers = new Set(planOf(decision).leftovers.map(({ index }) => index));
        // Another transition may run them again, for instance where the other direction has no steps.
        for (const { index, migration } of rungsOf(migrations)) {
          const done = effects.get(migration.name);
          if (done !== undefined && !leftovers.has(index)) effects.set(migration.name, { ...done, mayBegin: true });
        }
        for (const rung of rungsOf(migrations)) {
          if (leftovers.has(rung.index)) continue;
          const state = stateOf(effects, rung);
          const thereFromTheStart = state === undefined && isWithin(rung, initial);
          const skipped = rung.migration.from !== undefined && state !== "between";
          const text = `${rung.migration.name} to ${rung.migration.to} is ${String(state)} at ${target}`;
          if (!isWithin(rung, target))
            expect(state === "down" || (state === undefined && !thereFromTheStart), text).toBe(true);
          else expect(skipped || state === "up" || thereFromTheStart, text).toBe(true);
        }
      }
    });
    fc.assert(property, { numRuns: 1_500 });
    expect(ends).toBeGreaterThan(1_000);
  }, 60_000);
});
