import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { emptyMemory, type PassState } from "../../src/domain/pass/state.ts";
import { nextStep } from "../../src/domain/pass/next-step.ts";
import { takeSnapshot } from "../../src/engine/snapshot.ts";
import { editedSpec, specSchema, valueOf } from "../support/random-spec.ts";

// Set for longer runs.
const numRuns = Number(process.env["STAGESET_FUZZ_RUNS"] ?? 1_500);
const good = {
  interval: "5s",
  serviceAccountName: "deployer",
  stages: [{ name: "only", sourceRef: { name: "app" } }],
};

function firstStep(spec: unknown): string {
  const object = {
    apiVersion: "stages.metio.wtf/v1",
    kind: "StageSet",
    metadata: { name: "shop", namespace: "apps", uid: "u", generation: 3 },
    spec,
  };
  const snapshot = takeSnapshot(object, { crossNamespace: "allowed", allowLoopback: false });
  const state: PassState = {
    snapshot,
    stored: { generation: 3, hasFinalizer: true, status: {}, inventory: new Map(), ledger: undefined },
    facts: new Map(),
    results: { stages: new Map(), deletes: new Map(), recordFailure: undefined },
    memory: emptyMemory,
    causes: new Set(["spec"]),
    options: {
      defaultIntervalMs: 600_000,
      crossNamespace: "allowed",
      requireServiceAccount: false,
      defaultServiceAccount: "sa",
      maxTeardownWaitMs: 0,
      breakGlass: "off",
      runbookLink: () => undefined,
    },
    now: 1_700_000_000_000,
    elapsed: 1_000,
  };
  const step = nextStep(state);
  const says =
    step.kind === "record" && step.write.kind === "status" ? JSON.stringify(step.write.status.conditions) : "";
  return `${step.kind} ${snapshot.invalid === undefined ? "valid" : "invalid"} ${says}`;
}

describe("whatever a spec holds", () => {
  test("any value made from the schema, and any with wrong types in it, is run or InvalidSpec, and always the same", () => {
    fc.assert(
      fc.property(valueOf(specSchema()), (spec) => {
        const first = firstStep(spec);
        expect(first).toMatch(/^(need|record) (valid|invalid)/);
        if (first.includes(" invalid")) expect(first).toMatch(/InvalidSpec|Suspended/);
        expect(firstStep(spec)).toBe(first);
      }),
      { numRuns },
    );
  });

  test("what a spec comes to does not depend on those before it", () => {
    fc.assert(
      fc.property(fc.array(editedSpec(good), { minLength: 1, maxLength: 20 }), (edits) => {
        const fresh = edits.map((spec) => firstStep(spec));
        expect([...edits].reverse().map((spec) => firstStep(spec))).toEqual([...fresh].reverse());
        expect(firstStep(good)).toMatch(/^need valid/);
      }),
      { numRuns: Math.ceil(numRuns / 15) },
    );
  });
});
