import { describe, expect, test } from "vitest";
import { parseFleetRollout } from "./fleet-rollout.ts";
import { parseImageVerificationPolicy } from "./image-verification-policy.ts";
import { parseStageInventory } from "./stage-inventory.ts";
import { parseStageLedger } from "./stage-ledger.ts";
import { parseStageSet } from "./stage-set.ts";

const stage = { name: "web", sourceRef: { name: "app" } };

function stageSet(members: Readonly<Record<string, unknown>> = { spec: { stages: [stage] } }): unknown {
  return {
    apiVersion: "stages.metio.wtf/v1",
    kind: "StageSet",
    metadata: { name: "shop", namespace: "a" },
    ...members,
  };
}

function paths(parsed: ReturnType<typeof parseStageSet>): readonly string[] {
  return parsed.kind === "valid" ? [] : parsed.violations.map(({ path }) => path);
}

describe("a StageSet", () => {
  test("is read with metadata, spec and status", () => {
    const status = { observedGeneration: 3, stages: [{ name: "web", phase: "Ready" }] };
    const value = stageSet({ spec: { interval: "5m", stages: [stage] }, status });
    expect(parseStageSet(value)).toEqual({ kind: "valid", value });
  });

  test("an item of a list has no type of its own", () => {
    const value = { metadata: { name: "shop" }, spec: { stages: [stage] } };
    expect(parseStageSet(value)).toEqual({
      kind: "valid",
      value: { apiVersion: "stages.metio.wtf/v1", kind: "StageSet", ...value },
    });
  });

  test.each<[string, unknown, readonly string[]]>([
    ["no object", "text", [""]],
    ["nothing", undefined, [""]],
    ["no spec", stageSet({}), ["spec"]],
    ["a null spec", stageSet({ spec: null }), ["spec"]],
    ["a spec of the wrong type", stageSet({ spec: [] }), ["spec"]],
    ["an empty spec", stageSet({ spec: {} }), ["spec.stages"]],
    ["no stage", stageSet({ spec: { stages: [] } }), ["spec.stages"]],
    ["a stage without source", stageSet({ spec: { stages: [{ name: "a" }] } }), ["spec.stages[0].sourceRef"]],
    ["no name", stageSet({ metadata: {}, spec: { stages: [stage] } }), ["metadata.name"]],
    ["another kind", stageSet({ kind: "StageLedger", spec: { stages: [stage] } }), ["kind"]],
    ["another version", stageSet({ apiVersion: "stages.metio.wtf/v2", spec: { stages: [stage] } }), ["apiVersion"]],
  ])("%s is refused", (_, value, expected) => {
    expect(paths(parseStageSet(value))).toEqual(expected);
  });

  test("a missing spec is named", () => {
    expect(parseStageSet(stageSet({}))).toEqual({
      kind: "invalid",
      violations: [{ path: "spec", message: "is missing" }],
    });
  });

  test("every violation is told, and what fits stays readable", () => {
    const action = { name: "tell", http: { url: "https://hooks.example", method: "get" }, retries: 101 };
    const parsed = parseStageSet(
      stageSet({ spec: { interval: "5 minutes", stages: [{ ...stage, actions: { pre: [action] } }] } }),
    );
    expect(paths(parsed)).toEqual([
      "spec.interval",
      "spec.stages[0].actions.pre[0].retries",
      "spec.stages[0].actions.pre[0].http.method",
    ]);
    expect(parsed).toMatchObject({ kind: "invalid", readable: { spec: { stages: [{ name: "web" }] } } });
  });

  test("a spec of 1,000 stages is read within a second", () => {
    const actions = {
      pre: [{ name: "wait", wait: { duration: "1m" } }],
      post: [{ name: "run", job: { sourceRef: { name: "j" } } }],
    };
    const stages = Array.from({ length: 1000 }, (_, index) => ({
      name: `stage-${index}`,
      sourceRef: { kind: "OCIRepository", name: `app-${index}` },
      actions,
      postBuild: {
        substitute: Object.fromEntries(Array.from({ length: 20 }, (__, key) => [`v${key}`, "x".repeat(20)])),
      },
      readyChecks: { timeout: "10m", checks: [{ apiVersion: "apps/v1", kind: "Deployment", name: "web" }] },
      promotion: { soak: "1h", restartGate: { checks: [{ name: "r", selector: { matchLabels: { app: "web" } } }] } },
    }));
    const value = stageSet({ spec: { stages } });
    const started = performance.now();
    expect(paths(parseStageSet(value))).toEqual([]);
    expect(performance.now() - started).toBeLessThan(5000);
  });
});

describe("the other kinds", () => {
  const metadata = { name: "x" };

  test("a StageInventory without spec has no entries; entries that do not fit are left out", () => {
    expect(parseStageInventory({ metadata })).toMatchObject({ kind: "valid", value: { spec: {} } });
    const entries = [{ id: "a_b__ConfigMap", v: "v1" }, { id: "no version" }, "no entry"];
    expect(parseStageInventory({ metadata, spec: { stagePosition: 0, entries } })).toMatchObject({
      kind: "invalid",
      violations: [{ path: "spec.entries[1].v" }, { path: "spec.entries[2]" }],
      readable: { spec: { stagePosition: 0, entries: entries.slice(0, 1) } },
    });
  });

  test("a StageLedger without spec has no baseline; its status is kept", () => {
    const status = { completedCount: 0 };
    expect(parseStageLedger({ metadata, status })).toMatchObject({ kind: "valid", value: { spec: {}, status } });
  });

  test.each<[string, unknown, readonly string[]]>([
    ["no spec", { metadata }, ["spec"]],
    ["no selector and no wave", { metadata, spec: { waves: [] } }, ["spec.selector", "spec.waves"]],
    ["an unknown reaction", { metadata, spec: rollout({ onRegression: "halt" }) }, ["spec.onRegression"]],
    ["a bad soak", { metadata, spec: rollout({ waves: [{ ...wave, soak: "1d" }] }) }, ["spec.waves[0].soak"]],
    ["nothing wrong", { metadata, spec: rollout({}) }, []],
  ])("a FleetRollout with %s", (_, value, expected) => {
    const parsed = parseFleetRollout(value);
    expect(parsed.kind === "valid" ? [] : parsed.violations.map(({ path }) => path)).toEqual(expected);
  });

  test("of an invalid ImageVerificationPolicy the images that fit are readable", () => {
    const spec = { images: ["ghcr.io/acme/**", 1], authorities: [{ key: { publicKey: 1 } }] };
    expect(parseImageVerificationPolicy({ metadata, spec })).toMatchObject({
      kind: "invalid",
      violations: [{ path: "spec.images[1]" }, { path: "spec.authorities[0].key.publicKey" }],
      readable: { spec: { images: ["ghcr.io/acme/**"] } },
    });
  });
});

const wave = { name: "first", selector: {} };

function rollout(members: Readonly<Record<string, unknown>>): unknown {
  return { selector: {}, waves: [wave], ...members };
}
