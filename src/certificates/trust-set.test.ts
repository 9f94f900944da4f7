import { beforeAll, describe, expect, test } from "vitest";
import { issuePair } from "./issue.ts";
import { readCertificate } from "./pair.ts";
import { strangersStayMs, trustedBy, uniteTrust, type TrustOptions } from "./trust-set.ts";

const now = Date.parse("2026-01-01T00:00:00Z");
const hour = 3_600_000;
const names: [string] = ["webhook.system.svc"];
let [own, previous, older, expired]: string[] = ["", "", "", ""];
const garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
const foreign = "# kept by somebody else";

beforeAll(async () => {
  const authority = async (validityMs: number): Promise<string> =>
    (await issuePair({ names, validityMs, now: now - hour })).caPem;
  [own, previous, older] = await Promise.all([1, 2, 3].map(() => authority(8_760 * hour)));
  expired = await authority(hour / 2);
});

const idOf = (pem: string | undefined): string => readCertificate(pem ?? "")?.fingerprint256 ?? "";
const unite = (o: Partial<TrustOptions>) =>
  uniteTrust({ present: [], own: [own ?? ""], superseded: new Set(), now, firstSeen: new Map(), ...o });

describe("[50.41] the bundle is a set", () => {
  test("an empty one is filled", () => {
    expect([...trustedBy(unite({ present: ["", "\n"] }).bundle)]).toEqual([idOf(own)]);
  });

  test("what others put there is kept, each block once, and what cannot be read last", () => {
    const { bundle } = unite({ present: [`${foreign}\n${garbage}\n${older}`, `${older}${own}`] });
    expect([...trustedBy(bundle)]).toEqual([idOf(older), idOf(own)]);
    expect(bundle.indexOf(foreign)).toBeGreaterThan(bundle.indexOf(own?.trim() ?? "-"));
    expect(bundle).toContain(garbage);
    expect(unite({ present: [bundle, bundle] }).bundle).toBe(bundle);
  });

  test("a block without an end hides none that follows it", () => {
    const { bundle } = unite({ present: [`-----BEGIN CERTIFICATE-----\nMIIB\n${older}`] });
    expect([...trustedBy(bundle)]).toEqual([idOf(older), idOf(own)]);
  });

  test("expired and superseded authorities go", () => {
    const present = [`${expired}${previous}${older}`];
    const { bundle } = unite({ present, superseded: new Set([idOf(previous)]) });
    expect([...trustedBy(bundle)]).toEqual([idOf(older), idOf(own)]);
  });

  test("own ones stay even when they were superseded once", () => {
    expect(trustedBy(unite({ superseded: new Set([idOf(own)]) }).bundle)).toContain(idOf(own));
  });

  test("one of an older release stays for 24 h after it was first seen, and then the set shrinks", () => {
    const first = unite({ present: [older ?? ""] });
    const late = { present: [first.bundle], firstSeen: first.firstSeen };
    expect(trustedBy(unite({ ...late, now: now + strangersStayMs - 1 }).bundle).size).toBe(2);
    expect([...trustedBy(unite({ ...late, now: now + strangersStayMs }).bundle)]).toEqual([idOf(own)]);
  });

  test("replicas that serve different pairs converge on a set that both trust", () => {
    const one = unite({ present: [""], own: [own ?? ""] }).bundle;
    const both = unite({ present: [one], own: [previous ?? ""] }).bundle;
    expect(unite({ present: [both], own: [own ?? ""] }).bundle).toBe(both);
    expect(trustedBy(both)).toEqual(new Set([idOf(own), idOf(previous)]));
  });
});
