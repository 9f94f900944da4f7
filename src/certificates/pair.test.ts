import { X509Certificate } from "node:crypto";
import { describe, expect, test } from "vitest";
import { issuePair } from "./issue.ts";
import { authorityName, readOwnPair, readServingPair } from "./pair.ts";

const now = Date.parse("2026-01-01T00:00:00Z");
const hour = 3_600_000;
const names: [string, string] = ["webhook.system.svc", "webhook.system.svc.cluster.local"];
const issue = () => issuePair({ names, validityMs: hour, now });

describe("issuePair", () => {
  test("makes what spec 50 §7.1 describes", async () => {
    const { certPem, caPem } = await issue();
    const certificate = new X509Certificate(certPem);
    const authority = new X509Certificate(caPem);
    expect(certificate.subject).toBe(`CN=${names[0]}`);
    expect(certificate.issuer).toBe(`CN=${authorityName}`);
    expect(certificate.subjectAltName).toBe(names.map((name) => `DNS:${name}`).join(", "));
    expect(certificate.keyUsage).toEqual(["1.3.6.1.5.5.7.3.1"]);
    expect(certificate.validFromDate.getTime()).toBe(now - 60_000);
    expect(certificate.validToDate.getTime()).toBe(now + hour);
    expect([certificate.ca, authority.ca]).toEqual([false, true]);
    expect(certificate.verify(authority.publicKey)).toBe(true);
    expect(certificate.publicKey.asymmetricKeyDetails).toEqual({ namedCurve: "prime256v1" });
  });

  test("serial numbers are never repeated, and as short as DER wants them", async () => {
    const pairs = await Promise.all(Array.from({ length: 40 }, issue));
    const serials = pairs.flatMap(({ certPem, caPem }) =>
      [certPem, caPem].map((pem) => new X509Certificate(pem).serialNumber),
    );
    expect(new Set(serials).size).toBe(80);
    for (const serial of serials) expect(serial.length).toBeGreaterThan(30);
  });
});

describe("readOwnPair", () => {
  const problemOf = (material: Parameters<typeof readOwnPair>[0], o = { names, now }): string => {
    const read = readOwnPair(material, o);
    return read.kind === "usable" ? "" : read.problem;
  };

  test("takes what was issued, and nothing that does not fit together", async () => {
    const [one, two] = [await issue(), await issue()];
    expect(problemOf(one)).toBe("");
    expect(problemOf({ ...one, keyPem: two.keyPem })).toContain("key");
    expect(problemOf({ ...one, keyPem: "" })).toContain("key");
    expect(problemOf({ ...one, caPem: two.caPem })).toContain("not signed");
    expect(problemOf({ ...one, caPem: one.certPem })).toContain("authority");
    expect(problemOf({ ...one, certPem: "garbage" })).toContain("certificate");
    expect(problemOf(one, { names, now: now + hour })).toContain("expired");
    expect(problemOf(one, { names: ["a.b.svc", "c.d.svc"], now })).toContain('"a.b.svc"');
  });

  test("says nothing of the key", async () => {
    const pair = await issue();
    const read = readServingPair({ certPem: pair.certPem, keyPem: "canary" }, now);
    expect(JSON.stringify(read)).not.toContain("canary");
  });
});
