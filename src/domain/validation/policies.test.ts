import { generateKeyPairSync } from "node:crypto";
import { describe, expect, test } from "vitest";
import { matchesHostGlob } from "../formats/host-glob.ts";
import { isPublicKeyPem } from "../formats/public-key.ts";
import { isAnchored, regularExpressionProblem } from "../formats/regular-expression.ts";
import { reviewFleetRollout } from "./fleet-rollout.ts";
import { reviewImageVerificationPolicy } from "./image-verification-policy.ts";

const object = (kind: string, spec: unknown) => ({
  apiVersion: "stages.metio.wtf/v1",
  kind,
  metadata: { name: "one" },
  spec,
});

test.each([
  ["*.example.org", "a.b.example.org", true],
  ["*.example.org", "example.org", false],
  ["API.example.org", "api.example.org", true],
  ["a?c", "abc", true],
  ["a[b-d]c", "acc", true],
  ["a[^b-d]c", "acc", false],
  ["a[", "a[", false],
  ["a.c", "abc", false],
])("matchesHostGlob(%j, %j) is %j", (glob, host, matches) => {
  expect(matchesHostGlob(glob, host)).toBe(matches);
});

describe("isPublicKeyPem", () => {
  const pemOf = (key: { export(o: { type: "spki"; format: "pem" }): string | Buffer }): string =>
    key.export({ type: "spki", format: "pem" }).toString();
  test("takes ECDSA, RSA and Ed25519", () => {
    expect(isPublicKeyPem(pemOf(generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey))).toBe(true);
    expect(isPublicKeyPem(pemOf(generateKeyPairSync("rsa", { modulusLength: 2048 }).publicKey))).toBe(true);
    expect(isPublicKeyPem(pemOf(generateKeyPairSync("ed25519").publicKey))).toBe(true);
  });
  test("takes nothing else", () => {
    const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    expect(isPublicKeyPem(privateKey.export({ type: "pkcs8", format: "pem" }).toString())).toBe(false);
    expect(isPublicKeyPem(publicKey.export({ type: "pkcs1", format: "pem" }).toString())).toBe(false);
    expect(isPublicKeyPem(pemOf(generateKeyPairSync("x25519").publicKey))).toBe(false);
    const pem = pemOf(publicKey);
    expect(isPublicKeyPem(pem + pem)).toBe(false);
    expect(isPublicKeyPem(pem.replace(/\n[^\n]+\n-----END/, "\n-----END"))).toBe(false);
    expect(isPublicKeyPem("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----")).toBe(false);
  });
});

test("regular expressions are those of RE2", () => {
  expect(regularExpressionProblem("^https://[a-z]+$")).toBeUndefined();
  for (const text of ["(?=a)", "a(", "\\1", "[b-a]"]) expect(regularExpressionProblem(text)).toBeTypeOf("string");
  expect(["^a$", "^a\\\\$"].map(isAnchored)).toEqual([true, true]);
  expect(["a$", "^a", "^a\\$"].map(isAnchored)).toEqual([false, false, false]);
});

describe("warnings", () => {
  test("an expression that is not anchored", () => {
    const keyless = { issuerRegExp: "github", subject: "a" };
    const review = reviewImageVerificationPolicy(
      object("ImageVerificationPolicy", { images: ["a"], authorities: [{ keyless }] }),
    );
    expect(review.violations).toEqual([]);
    expect(review.warnings).toEqual([expect.stringContaining("spec.authorities[0].keyless.issuerRegExp")]);
  });

  test("a fleet of every StageSet", () => {
    const spec = { selector: {}, waves: [{ name: "one", selector: {} }] };
    const review = reviewFleetRollout(object("FleetRollout", spec), { allowLoopback: false });
    expect(review).toEqual({ violations: [], warnings: [expect.stringContaining("spec.selector is empty")] });
  });
});

test.each([[null], ["text"], [[]], [{ waves: [null, 1] }], [{ images: [7], authorities: "x" }]])(
  "whatever is sent is a violation, never an error: %j",
  (spec) => {
    for (const review of [
      reviewFleetRollout(object("FleetRollout", spec), { allowLoopback: false }),
      reviewImageVerificationPolicy(object("ImageVerificationPolicy", spec)),
    ])
      expect(review.violations.length).toBeGreaterThan(0);
  },
);
