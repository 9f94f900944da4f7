import { expect, test } from "vitest";
import type { Stage, StageSetStatus, StageStatus } from "../../api/stage-set.ts";
import { stageFailure } from "../failure.ts";
import type { Pin } from "../pins.ts";
import { actionStep } from "./action-step.ts";
import { failingStep, failStage } from "./failing-step.ts";
import { emptyMemory, type PassState } from "./state.ts";
import type { StageTurn } from "./turn.ts";

const identity = { revision: "r1", digest: "sha256:r1" };
const pin: Pin = {
  ...identity,
  namespace: "ns",
  name: "app",
  kind: "ExternalArtifact",
  url: "http://artifacts/",
  foreign: false,
  foreignSentence: "",
};
const stage: Stage = {
  name: "only",
  sourceRef: { name: "app" },
  actions: { post: [{ name: "tell", wait: {} }], onFailure: [{ name: "undo", wait: {} }] },
};
const ready = { type: "Ready", reason: "Succeeded", message: "", lastTransitionTime: "2026-03-01T10:00:00Z" } as const;

function turnOf(entry: Partial<StageStatus>, condition: "True" | "Unknown"): StageTurn {
  const spec = { stages: [stage] };
  const stored: StageStatus = {
    name: "only",
    enteredRevision: "r1",
    enteredDigest: "sha256:r1",
    appliedRevision: "r1",
    appliedDigest: "sha256:r1",
    ...entry,
  };
  const status: StageSetStatus = {
    observedGeneration: 1,
    conditions: [{ ...ready, status: condition }],
    stages: [stored],
  };
  const state: PassState = {
    snapshot: {
      ...{ namespace: "ns", name: "ss", uid: "u", generation: 1, deletedAt: undefined, annotations: {} },
      ...{ spec, invalid: undefined, stored: status },
    },
    stored: { generation: 1, hasFinalizer: true, status, inventory: new Map(), ledger: undefined },
    facts: new Map(),
    results: { stages: new Map(), deletes: new Map(), recordFailure: undefined },
    memory: emptyMemory,
    causes: new Set(),
    options: {
      ...{ defaultIntervalMs: 600_000, crossNamespace: "allowed", requireServiceAccount: false },
      ...{ defaultServiceAccount: "sa", maxTeardownWaitMs: 0, breakGlass: "off", runbookLink: () => undefined },
    },
    now: Date.parse("2026-03-01T10:00:00Z"),
    elapsed: 100_000,
  };
  const goal = { stage: "only", index: 0, mode: "keep", identity, content: "pin", acts: true, pin } as const;
  const plan = {
    ...{ spec, pins: [pin], revisions: {}, run: undefined, renders: new Map(), version: undefined },
    goals: { stages: [goal], hold: undefined, gate: undefined, standstill: false, halt: undefined, onlyKeeps: false },
  };
  return { state, plan, goal, stage, as: { kind: "serviceAccount", name: "sa" }, identity, entry: stored };
}

const why = stageFailure({ name: "only", operation: "verify", cause: "Deployment ns/app is Failed" });

test("[30.14] a deployed stage that fails is not said to be Ready when the first onFailure action starts", () => {
  const turn = turnOf({ phase: "Ready", promotionState: { phase: "Soaking", since: "2026-03-01T09:59:00Z" } }, "True");
  const step = failStage(turn, why);
  if (step.kind !== "record" || step.write.kind !== "status") throw new Error(`a ${step.kind} comes first`);
  const { status } = step.write;
  expect(status.conditions?.find(({ type }) => type === "Ready")?.status).toBe("Unknown");
  expect(status.stages?.[0]).toMatchObject({ phase: "Verifying", appliedRevision: "r1" });
  expect(status.stages?.[0]?.promotionState?.phase).toBeUndefined();
  // Once that is on record the action starts, with nothing to fail again before.
  const recorded = { ...turn.state, stored: { ...turn.state.stored, status } };
  const next = failingStep({ ...recorded, memory: { ...recorded.memory, ...step.remember } });
  expect(next).toMatchObject({ kind: "do", effect: { kind: "action", call: { list: "onFailure" } } });
});

test("a stage that is at work already starts its onFailure actions without another write", () => {
  expect(failStage(turnOf({ phase: "Verifying" }, "Unknown"), why).kind).toBe("do");
});

test("a post action takes nothing off the time the stage has to become ready", () => {
  const turn = turnOf({ phase: "Verifying" }, "Unknown");
  const memory = {
    ...emptyMemory,
    verifyStarted: new Map([
      ["only", 1],
      ["other", 2],
    ]),
    standstills: new Map([["only", { waiting: "", since: 1 }]]),
  };
  const step = actionStep({ ...turn, state: { ...turn.state, memory } }, "post", () => {
    throw new Error("it has not failed");
  });
  if (step?.kind !== "do") throw new Error("the action is to run");
  expect(step.remember?.verifyStarted).toEqual(new Map([["other", 2]]));
  expect(step.remember?.standstills).toEqual(new Map());
});
