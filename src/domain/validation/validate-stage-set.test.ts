import { describe, expect, test } from "vitest";
import { parseStageSet, type StageSetSpec } from "../../api/stage-set.ts";
import type { ValidationContext } from "./finding.ts";
import { validateStageSet } from "./validate-stage-set.ts";

const context: ValidationContext = {
  namespace: "apps",
  name: "shop",
  crossNamespace: "refused",
  allowLoopback: false,
  isAllowedHost: (host) => host === "prometheus",
  now: Date.parse("2026-06-01T00:00:00Z"),
};

const specOf = (spec: object): StageSetSpec => {
  const parsed = parseStageSet({ metadata: { name: "shop", namespace: "apps" }, spec });
  if (parsed.kind === "invalid") throw new Error(JSON.stringify(parsed.violations));
  return parsed.value.spec;
};

const stage = (change: object = {}): object => ({ name: "web", sourceRef: { name: "app" }, ...change });
const one = (change: object): object => ({ stages: [stage(change)] });
const action = (change: object): object => one({ actions: { pre: [{ name: "a", ...change }] } });
const prometheus = { prometheus: { address: "http://prometheus", query: "up" } };
const window = (change: object): object => ({ stages: [stage()], updateWindows: [{ type: "Deny", ...change }] });
const recreate = (change: object): object =>
  one({ conflictPolicy: { rules: [{ target: { kind: "PersistentVolumeClaim" }, action: "Recreate", ...change }] } });

describe("validateStageSet", () => {
  test.each<readonly [rule: string, spec: object, path: string]>([
    ["V2", { stages: [stage()], timeout: "-1s" }, "spec.timeout"],
    ["V2", one({ promotion: { soak: "-1h" } }), "spec.stages[0].promotion.soak"],
    ["V8", one({ sourceRef: { name: "app", namespace: "other" } }), "spec.stages[0].sourceRef.namespace"],
    ["V8", { stages: [stage()], dependsOn: [{ name: "a", namespace: "other" }] }, "spec.dependsOn[0].namespace"],
    ["V9", { stages: [stage()], dependsOn: [{ name: "a" }, { name: "a", namespace: "apps" }] }, "spec.dependsOn[1]"],
    ["V12", action({ http: { url: "https://example.org" } }), "spec.stages[0].actions.pre[0].http.url"],
    [
      "V12",
      action({ http: { url: "http://prometheus", body: "x", bodyFrom: { name: "s", key: "k" } } }),
      "spec.stages[0].actions.pre[0].http",
    ],
    ["V13", action({ wait: {} }), "spec.stages[0].actions.pre[0].wait"],
    [
      "V13",
      action({ wait: { duration: "1s", expr: "true", target: { kind: "Pod", name: "a" } } }),
      "spec.stages[0].actions.pre[0].wait",
    ],
    ["V18", one({ migrationAnchor: "web" }), "spec.stages[0].migrationAnchor"],
    [
      "V25",
      one({ promotion: { soak: "1h", fastTrack: { source: prometheus, max: "1", after: "1h" } } }),
      "spec.stages[0].promotion.fastTrack.after",
    ],
    ["V27", { stages: [stage()], onTimeout: "Rollback" }, "spec.onTimeout"],
    ["V27", one({ onTimeout: "Rollback" }), "spec.stages[0].onTimeout"],
    [
      "V28",
      one({ readyChecks: { exprs: [{ apiVersion: "v1", kind: "Pod" }] } }),
      "spec.stages[0].readyChecks.exprs[0]",
    ],
    ["V29", window({ schedule: "0 0 31 4 *", duration: "1h" }), "spec.updateWindows[0].schedule"],
    [
      "V29",
      window({ type: "Allow", from: "2026-05-01T00:00:00Z", to: "2026-06-01T00:00:00Z" }),
      "spec.updateWindows[0].to",
    ],
    [
      "V29",
      window({ from: "2026-01-01T00:00:00Z", to: "2026-01-02T00:00:00Z", timeZone: "UTC" }),
      "spec.updateWindows[0].timeZone",
    ],
    ["V30", one({ force: true, conflictPolicy: {} }), "spec.stages[0].force"],
    ["V30", recreate({}), "spec.stages[0].conflictPolicy.rules[0]"],
  ])("%s warns %#", (rule, spec, path) => {
    expect(validateStageSet(specOf(spec), context)).toMatchObject([{ rule, path, severity: "warn" }]);
  });

  test.each<readonly [name: string, spec: object]>([
    ["a user's key named timeout", one({ postBuild: { substitute: { timeout: "-1s" } } })],
    ["a rollback that is enabled", { ...one({ onTimeout: "Rollback" }), rollbackOnFailure: true }],
    ["data loss that is allowed", recreate({ allowDataLoss: true })],
    ["force without a policy", one({ force: true })],
  ])("says nothing about %s", (_name, spec) => {
    expect(validateStageSet(specOf(spec), context)).toEqual([]);
  });
});
