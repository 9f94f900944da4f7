import { expect, test } from "vitest";
import { missingRecord } from "./records.ts";
import type { Stored } from "./state.ts";

const digest = `sha256:${"a".repeat(64)}`;
const pins = [{ image: "ghcr.io/team/app:v1", digest }];
const stored = (status: Stored["status"]): Stored => ({
  generation: 1,
  hasFinalizer: true,
  status,
  inventory: new Map(),
  ledger: undefined,
});
const withImages = (verifiedImages: readonly Readonly<Record<string, string>>[]): Stored =>
  stored({ stages: [{ name: "web", phase: "Applying", verifiedImages }] });

test.each([
  ["as it is to be applied", [{ ...pins[0], revision: "v1" }], undefined],
  ["of another revision", [{ ...pins[0], revision: "v0" }], "not pinned on record"],
  ["of another digest", [{ ...pins[0], digest: "sha256:other", revision: "v1" }], "not pinned on record"],
  ["of none", [], "not pinned on record"],
] as const)("[50.30] a pin on record %s: %s", (_what, recorded, missing) => {
  const key = { kind: "verifiedImages", stage: "web", revision: "v1", pins } as const;
  const found = missingRecord(withImages(recorded), [key]);
  if (missing === undefined) expect(found).toBeUndefined();
  else expect(found).toContain(missing);
});

test("[50.35] nothing is applied unverified by a value that is not on record for this identity", () => {
  const identity = { revision: "v1", digest: "sha256:1" };
  const key = { kind: "skippedImages", stage: "web", identity, token: "outage" } as const;
  const skip = { token: "outage", revisions: { web: "v1" }, digests: { web: "sha256:1" } };
  expect(missingRecord(stored({ imageVerificationSkip: skip }), [key])).toBeUndefined();
  for (const other of [undefined, { ...skip, token: "x" }, { ...skip, revisions: { web: "v0" } }])
    expect(missingRecord(stored(other === undefined ? {} : { imageVerificationSkip: other }), [key])).toContain(
      "not on record",
    );
});
