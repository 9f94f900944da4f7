import { beforeAll, describe, expect, test } from "vitest";
import { issuePair } from "./issue.ts";
import { type OwnPair, readOwnPair } from "./pair.ts";
import { planUpkeep, previousStaysMs, settleMs, type UpkeepView, wantedTrust } from "./plan-upkeep.ts";
import { trustedBy } from "./trust-set.ts";

const start = Date.parse("2026-01-01T00:00:00Z");
const minute = 60_000;
const names: [string] = ["webhook.system.svc"];
let one: OwnPair;
let two: OwnPair;

beforeAll(async () => {
  const make = async (): Promise<OwnPair> => {
    const read = readOwnPair(await issuePair({ names, validityMs: 30 * minute, now: start }), { names, now: start });
    if (read.kind === "unusable") throw new Error(read.problem);
    return read.pair;
  };
  [one, two] = await Promise.all([make(), make()]);
});

const trusting = (...pairs: readonly OwnPair[]): string => pairs.map(({ caPem }) => caPem).join("");
const since = (...pairs: readonly OwnPair[]): ReadonlyMap<string, number> =>
  new Map(pairs.map(({ caFingerprint }) => [caFingerprint, 0]));
const previousOf = ({ caPem, caFingerprint }: OwnPair) => ({ pem: caPem, fingerprint: caFingerprint });

/** A replica that serves what the Secret holds, trusted, long before it is due. */
const view = (change: Partial<UpkeepView> = {}): UpkeepView => ({
  now: start,
  monotonic: 0,
  leads: true,
  secret: { kind: "usable", pair: one, previous: undefined },
  bundles: [trusting(one)],
  held: one,
  pending: undefined,
  trustedSince: since(one),
  previousSince: undefined,
  superseded: new Set(),
  firstSeen: new Map(),
  resting: new Set(),
  ...change,
});
const due = start + 11 * minute;

describe("the steps of the certificate", () => {
  test("nothing to do", () => {
    expect(planUpkeep(view())).toEqual({ kind: "rest" });
    expect(planUpkeep(view({ leads: false, now: due }))).toEqual({ kind: "rest" });
  });

  test("the Secret is written by whoever finds it missing: with the pair it serves, else with a new one", () => {
    const secret = { kind: "absent" } as const;
    expect(planUpkeep(view({ secret, leads: false }))).toEqual({ kind: "restore", pair: one });
    expect(planUpkeep(view({ secret, held: undefined }))).toEqual({ kind: "restore", pair: undefined });
    expect(planUpkeep(view({ secret, now: start + 31 * minute }))).toEqual({ kind: "restore", pair: undefined });
    expect(planUpkeep(view({ secret, resting: new Set(["restore"]) }))).toEqual({ kind: "rest" });
  });

  test("nothing is served before its authority is seen in the configuration", () => {
    const fresh = { held: undefined, bundles: [""], trustedSince: since() };
    expect(planUpkeep(view(fresh)).kind).toBe("unite");
    expect(planUpkeep(view({ ...fresh, bundles: undefined }))).toEqual({ kind: "rest" });
    expect(planUpkeep(view({ held: undefined }))).toEqual({ kind: "serve", pair: one });
  });

  test("a pair that works is replaced only by one trusted for 30 s", () => {
    const secret = { kind: "usable", pair: two, previous: previousOf(one) } as const;
    const changed = { secret, bundles: [trusting(one, two)], trustedSince: since(one, two), leads: false };
    expect(planUpkeep(view({ ...changed, monotonic: settleMs - 1 }))).toEqual({ kind: "rest" });
    expect(planUpkeep(view({ ...changed, monotonic: settleMs }))).toEqual({ kind: "serve", pair: two });
    expect(planUpkeep(view({ ...changed, trustedSince: since(two) }))).toEqual({ kind: "serve", pair: two });
  });

  test("a rotation is issued, trusted for 30 s, written, and the previous authority retired after 5 min", () => {
    expect(planUpkeep(view({ now: due }))).toEqual({ kind: "issue" });
    const pending = { now: due, pending: two };
    expect(planUpkeep(view(pending)).kind).toBe("unite");
    const trusted = { ...pending, bundles: [trusting(one, two)], trustedSince: since(one, two) };
    expect(planUpkeep(view({ ...trusted, monotonic: settleMs - 1 }))).toEqual({ kind: "rest" });
    const promote = planUpkeep(view({ ...trusted, monotonic: settleMs }));
    expect(promote).toEqual({ kind: "promote", pair: two, previousCaPem: one.caPem });
    const secret = { kind: "usable", pair: two, previous: previousOf(one) } as const;
    const promoted = { secret, held: two, bundles: [trusting(one, two)], trustedSince: since(one, two) };
    const early = { ...promoted, previousSince: 0, monotonic: previousStaysMs - 1 };
    expect(planUpkeep(view(early))).toEqual({ kind: "rest" });
    const late = view({ ...promoted, previousSince: 0, monotonic: previousStaysMs });
    expect(planUpkeep(late).kind).toBe("unite");
    expect([...trustedBy(wantedTrust(late, late.bundles ?? []).bundle)]).toEqual([two.caFingerprint]);
    expect(planUpkeep({ ...late, bundles: [trusting(two)] }).kind).toBe("retire");
    expect(planUpkeep({ ...late, leads: false })).toEqual({ kind: "rest" });
  });

  test("what was prepared is forgotten by who no longer leads, or finds the Secret renewed", () => {
    expect(planUpkeep(view({ pending: two, bundles: [trusting(one, two)], leads: false })).kind).toBe("forgetPending");
    expect(planUpkeep(view({ pending: two, bundles: [trusting(one, two)] })).kind).toBe("forgetPending");
  });

  test("without anything of its own it touches no bundle", () => {
    const blind = { secret: { kind: "unknown" }, held: undefined } as const;
    expect(planUpkeep(view({ ...blind, bundles: ["something"] }))).toEqual({ kind: "rest" });
  });
});
