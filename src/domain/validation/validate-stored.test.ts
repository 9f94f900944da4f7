import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseStageSet } from "../../api/stage-set.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import { validateStageSet } from "./validate-stage-set.ts";
import { joinViolations, validateStored } from "./validate-stored.ts";

const options = { crossNamespace: "allowed", allowLoopback: false } as const;
const sourceRef = { name: "app" };
const stage = (change: object = {}): object => ({ name: "web", sourceRef, ...change });
const object = (spec: unknown, name = "shop"): KubeObject => ({
  apiVersion: "stages.metio.wtf/v1",
  kind: "StageSet",
  metadata: { name, namespace: "apps" },
  spec,
});
const withStage = (change: object): object => ({ stages: [stage(change)] });
const withAction = (change: object, list = "pre"): object =>
  withStage({ actions: { [list]: [{ name: "act", ...change }] } });
const wait = { wait: { duration: "1s" } };
const target = { kind: "ConfigMap", name: "settings" };
const patch = (change: object): object => withAction({ patch: { target, patch: "data: {a: b}", ...change } });
const http = (change: object): object => withAction({ http: { url: "https://example.org", ...change } });
const versioned = (change: object): object => ({ stages: [stage()], version: { value: "1.0.0" }, ...change });
const migration = (change: object): object => ({ name: "m", to: "2.0.0", ...change });
const migrations = (...list: readonly object[]): object => versioned({ migrations: list });
const version = (change: object): object => ({ stages: [stage()], version: change });
const prometheus = { prometheus: { address: "http://prometheus:9090", query: "up" } };
const budget = (change: object): object => ({
  stages: [stage()],
  errorBudget: { source: prometheus, freezeThreshold: "0.1", ...change },
});
const promotion = (change: object): object => withStage({ promotion: change });
const check = { name: "errors", source: prometheus, threshold: { max: "0.1" } };
const analysis = (...checks: readonly object[]): object => promotion({ analysis: { checks } });
const selector = { matchLabels: { app: "web" } };
const restarts = (...checks: readonly object[]): object => promotion({ restartGate: { checks } });
const events = (...checks: readonly object[]): object => promotion({ eventGate: { checks } });
const window = (change: object): object => ({ stages: [stage()], updateWindows: [{ type: "Allow", ...change }] });
const recurring = { schedule: "0 8 * * *", duration: "1h" };
const from = "2026-01-01T00:00:00Z";
const to = "2026-01-02T00:00:00Z";

type Row = readonly [rule: string, spec: unknown, path: string];

const shape: readonly Row[] = [
  ["V1", undefined, "spec is missing"],
  ["V1", {}, "spec.stages is missing"],
  ["V1", { stages: [] }, "spec.stages has 0 items"],
  ["V2", { stages: [stage()], interval: "5 minutes" }, 'spec.interval is "5 minutes"'],
  ["V2", withStage({ timeout: "300y" }), 'spec.stages[0].timeout is "300y"'],
  ["V2", withStage({ timeout: "9999999999h" }), 'spec.stages[0].timeout is "9999999999h"'],
  ["V4", { stages: [stage(), stage()] }, 'spec.stages[1].name (stage "web") is "web"'],
  ["V20", { stages: [stage()], decryption: { provider: "pgp" } }, 'spec.decryption.provider is "pgp"'],
  ["V21", { stages: [stage()], kubeConfig: {} }, "spec.kubeConfig sets none"],
  [
    "V21",
    { stages: [stage()], kubeConfig: { secretRef: { name: "a" }, configMapRef: { name: "b" } } },
    "spec.kubeConfig sets 2",
  ],
  ["V31", { stages: [stage()], onTimeout: "hold" }, 'spec.onTimeout is "hold"'],
  ["V31", { stages: [stage()], windowScope: "None" }, 'spec.windowScope is "None"'],
  ["V31", withStage({ conflictPolicy: { default: "Ignore" } }), 'spec.stages[0].conflictPolicy.default is "Ignore"'],
];

const references: readonly Row[] = [
  ["V5", withStage({ sourceRef: { name: "" } }), 'spec.stages[0].sourceRef.name (stage "web") is empty'],
  ["V5", { stages: [stage()], dependsOn: [{ name: "" }] }, "spec.dependsOn[0].name is empty"],
  ["V5", { stages: [stage()], kubeConfig: { secretRef: { name: "" } } }, "spec.kubeConfig.secretRef.name is empty"],
  [
    "V5",
    { stages: [stage()], kubeConfig: { configMapRef: { name: "" } } },
    "spec.kubeConfig.configMapRef.name is empty",
  ],
  [
    "V5",
    withStage({ postBuild: { substituteFrom: [{ kind: "Secret", name: "" }] } }),
    'spec.stages[0].postBuild.substituteFrom[0].name (stage "web") is empty',
  ],
  [
    "V5",
    withStage({ readyChecks: { checks: [{ kind: "", name: "x" }] } }),
    'spec.stages[0].readyChecks.checks[0].kind (stage "web") is empty',
  ],
  [
    "V5",
    withAction({ delete: { target: { kind: "Pod", name: "" } } }),
    'spec.stages[0].actions.pre[0].delete.target.name (stage "web", action "act") is empty',
  ],
  [
    "V6",
    withStage({ sourceRef: { kind: "HelmChart", name: "app" } }),
    'spec.stages[0].sourceRef.apiVersion (stage "web") is empty for the kind "HelmChart"',
  ],
  [
    "V6",
    withAction({ job: { sourceRef: { kind: "Foo", name: "app" } } }),
    'spec.stages[0].actions.pre[0].job.sourceRef.apiVersion (stage "web", action "act") is empty for the kind "Foo"',
  ],
  ["V7", withStage({ path: "../x" }), 'spec.stages[0].path (stage "web") is "../x"'],
  ["V7", withStage({ path: "/a/../../x" }), 'spec.stages[0].path (stage "web") is "/a/../../x"'],
  ["V7", version({ fromArtifact: { stage: "web", path: "../V" } }), 'spec.version.fromArtifact.path is "../V"'],
  ["V7", withAction({ apply: { sourceRef, path: ".." } }), "spec.stages[0].actions.pre[0].apply.path"],
  ["V9", { stages: [stage()], dependsOn: [{ name: "a", minVersion: "x" }] }, 'spec.dependsOn[0].minVersion is "x"'],
  ["V9", { stages: [stage()], dependsOn: [{ name: "shop" }] }, 'spec.dependsOn[0] names "apps/shop"'],
  [
    "V19",
    versioned({ migrationsSourceRef: { sourceRef: { name: "m", namespace: "other" } } }),
    'spec.migrationsSourceRef.sourceRef.namespace is "other"',
  ],
];

const actions: readonly Row[] = [
  ["V10", withAction({}), 'spec.stages[0].actions.pre[0] (stage "web", action "act") sets none'],
  [
    "V10",
    withAction({ ...wait, http: { url: "https://example.org" } }, "post"),
    'spec.stages[0].actions.post[0] (stage "web", action "act") sets 2: http, wait',
  ],
  ["V10", withAction({ ...wait, name: "" }), "spec.stages[0].actions.pre[0].name"],
  [
    "V10",
    withStage({ actions: { pre: [{ name: "a", ...wait }], onFailure: [{ name: "a", ...wait }] } }),
    'spec.stages[0].actions.onFailure[0].name (stage "web", action "a") is "a"',
  ],
  [
    "V10",
    {
      stages: [stage()],
      onRollback: [
        { name: "a", ...wait },
        { name: "a", ...wait },
      ],
    },
    'spec.onRollback[1].name (action "a") is "a"',
  ],
  [
    "V10",
    migrations(
      migration({
        down: [
          { name: "a", ...wait },
          { name: "a", ...wait },
        ],
      }),
    ),
    'spec.migrations[0].down[1].name (migration "m", action "a") is "a"',
  ],
  ["V11", patch({ target: { kind: "ConfigMap" } }), "spec.stages[0].actions.pre[0].patch.target"],
  ["V11", patch({ target: { ...target, selector } }), "spec.stages[0].actions.pre[0].patch.target"],
  ["V11", patch({ target: { kind: "Pod", selector: {} } }), "spec.stages[0].actions.pre[0].patch.target.selector"],
  [
    "V11",
    patch({ target: { kind: "Pod", selector: { matchExpressions: [{ key: "a", operator: "In" }] } } }),
    "spec.stages[0].actions.pre[0].patch.target.selector.matchExpressions[0].values",
  ],
  ["V11", patch({ patch: "a: [" }), "spec.stages[0].actions.pre[0].patch.patch"],
  ["V11", patch({ patch: "- a" }), "spec.stages[0].actions.pre[0].patch.patch"],
  ["V11", patch({ type: "json6902" }), "spec.stages[0].actions.pre[0].patch.patch"],
  ["V12", http({ url: "example.org" }), "spec.stages[0].actions.pre[0].http.url"],
  ["V12", http({ url: "ftp://example.org" }), "spec.stages[0].actions.pre[0].http.url"],
  ["V12", http({ url: "http://localhost:8080" }), "spec.stages[0].actions.pre[0].http.url"],
  ["V12", http({ url: "http://0x7f000001" }), "spec.stages[0].actions.pre[0].http.url"],
  ["V12", http({ url: "http://[::ffff:169.254.169.254]/" }), "spec.stages[0].actions.pre[0].http.url"],
  ["V12", http({ bodyFrom: { name: "s" } }), "spec.stages[0].actions.pre[0].http.bodyFrom.key"],
  ["V12", http({ headersFrom: [{ name: "s" }] }), "spec.stages[0].actions.pre[0].http.headersFrom[0].key"],
  ["V12", http({ headersFrom: [{ name: "s", key: "a b" }] }), "spec.stages[0].actions.pre[0].http.headersFrom[0].key"],
  ["V13", withAction({ wait: { expr: "true" } }), "spec.stages[0].actions.pre[0].wait.target"],
  ["V14", withAction({ ...wait, scope: "Version" }), "spec.stages[0].actions.pre[0].scope"],
  [
    "V14",
    withAction({ ...wait, completionAnchor: { apiVersion: "v1", kind: "ConfigMap", name: "a" } }),
    "spec.stages[0].actions.pre[0].completionAnchor",
  ],
  [
    "V14",
    withAction({ ...wait, scope: "Lifetime", completionAnchor: { apiVersion: "v1", kind: "ConfigMap", name: "" } }),
    "spec.stages[0].actions.pre[0].completionAnchor.name",
  ],
  ["V15", withAction({ ...wait, scope: "Revision" }, "onFailure"), "spec.stages[0].actions.onFailure[0].scope"],
  [
    "V15",
    { stages: [stage()], onRollback: [{ name: "a", ...wait, scope: "Lifetime" }] },
    'spec.onRollback[0].scope (action "a") is "Lifetime"',
  ],
  [
    "V15",
    migrations(
      migration({ actions: [{ name: "a", ...wait, completionAnchor: { apiVersion: "v1", kind: "K", name: "a" } }] }),
    ),
    "spec.migrations[0].actions[0].completionAnchor",
  ],
];

const versions: readonly Row[] = [
  ["V16", { stages: [stage()], migrations: [migration({})] }, "spec.migrations has 1 migrations"],
  ["V16", { stages: [stage()], migrationsSourceRef: { sourceRef } }, "spec.migrationsSourceRef is set"],
  ["V16", versioned({ migrations: [migration({})], migrationsSourceRef: { sourceRef } }), "spec.migrations is set"],
  [
    "V16",
    migrations(...Array.from({ length: 201 }, (_, index) => migration({ name: `m${index}` }))),
    "spec.migrations has 201",
  ],
  [
    "V16",
    migrations(migration({ down: Array.from({ length: 101 }, (_, index) => ({ name: `a${index}`, ...wait })) })),
    'spec.migrations[0].down (migration "m") has 101',
  ],
  ["V16", migrations(migration({ name: "" })), "spec.migrations[0].name"],
  ["V16", migrations(migration({}), migration({})), 'spec.migrations[1].name (migration "m") is "m"'],
  ["V16", migrations(migration({ to: "2.x" })), 'spec.migrations[0].to (migration "m") is "2.x"'],
  ["V16", migrations(migration({ to: "9".repeat(100_000) })), "spec.migrations[0].to"],
  ["V16", migrations(migration({ from: "1.0.0" })), 'want ">=1.0.0" or "=1.0.0"'],
  ["V16", migrations(migration({ from: "v1.0.0" })), 'want ">=v1.0.0" or "=v1.0.0"'],
  ["V16", migrations(migration({ from: ">>1" })), 'spec.migrations[0].from (migration "m") is ">>1"'],
  ["V16", migrations(migration({ stage: "db" })), 'spec.migrations[0].stage (migration "m") is "db"'],
  [
    "V16",
    migrations(migration({ actions: [{ name: "a", ...wait, retries: 11 }] })),
    'spec.migrations[0].actions[0].retries (migration "m", action "a") is 11',
  ],
  ["V16", migrations(migration({ actions: [{ name: "down/a", ...wait }] })), "spec.migrations[0].actions[0].name"],
  ["V17", version({}), "spec.version sets none"],
  ["V17", version({ value: "1", fromArtifact: { stage: "web", path: "V" } }), "spec.version sets 2"],
  ["V17", version({ value: "latest" }), 'spec.version.value is "latest"'],
  ["V17", version({ fromArtifact: { stage: "db", path: "V" } }), 'spec.version.fromArtifact.stage is "db"'],
  ["V17", version({ fromArtifact: { stage: "web", path: "" } }), "spec.version.fromArtifact.path is empty"],
  ["V17", version({ fromObject: { stage: "db", ...target } }), 'spec.version.fromObject.stage is "db"'],
  ["V17", version({ fromObject: { ...target, fieldPath: "{.a" } }), 'spec.version.fromObject.fieldPath is "{.a"'],
  ["V17", version({ fromObject: { kind: "ConfigMap", name: "" } }), "spec.version.fromObject.name is empty"],
  [
    "V18",
    versioned({
      stages: [stage({ migrationAnchor: "web" })],
      migrations: [migration({})],
    }),
    'spec.stages[0].migrationAnchor (stage "web") is "web"',
  ],
  [
    "V18",
    versioned({
      stages: [stage({ migrationAnchor: "db" }), stage({ name: "api", migrationAnchor: "db" })],
      migrations: [migration({})],
    }),
    'spec.stages[1].migrationAnchor (stage "api") is "db"',
  ],
];

const gates: readonly Row[] = [
  ["V22", budget({ source: {} }), "spec.errorBudget.source sets none"],
  [
    "V22",
    budget({ source: { ...prometheus, webhook: { url: "https://example.org", jsonPath: ".a" } } }),
    "spec.errorBudget.source sets 2",
  ],
  [
    "V22",
    budget({ source: { prometheus: { address: "prometheus:9090", query: "up" } } }),
    'spec.errorBudget.source.prometheus.address is "prometheus:9090"',
  ],
  [
    "V22",
    budget({ source: { prometheus: { address: "http://prometheus:9090", query: "" } } }),
    "spec.errorBudget.source.prometheus.query is empty",
  ],
  [
    "V22",
    budget({ source: { webhook: { url: "http://0x7f000001", jsonPath: ".a" } } }),
    'spec.errorBudget.source.webhook.url is "http://0x7f000001"',
  ],
  [
    "V22",
    budget({ source: { webhook: { url: "https://example.org", jsonPath: "a" } } }),
    'spec.errorBudget.source.webhook.jsonPath is "a"',
  ],
  [
    "V22",
    analysis({ ...check, source: {} }),
    'spec.stages[0].promotion.analysis.checks[0].source (stage "web", check "errors") sets none',
  ],
  ["V23", budget({ freezeThreshold: "NaN" }), 'spec.errorBudget.freezeThreshold is "NaN"'],
  ["V23", budget({ resumeThreshold: "half" }), 'spec.errorBudget.resumeThreshold is "half"'],
  ["V23", budget({ resumeThreshold: "0.05" }), 'spec.errorBudget.resumeThreshold is "0.05"'],
  ["V23", budget({ onSourceError: "Ignore" }), 'spec.errorBudget.onSourceError is "Ignore"'],
  ["V24", analysis(), "spec.stages[0].promotion.analysis.checks"],
  ["V24", analysis({ ...check, name: "" }), "spec.stages[0].promotion.analysis.checks[0].name"],
  ["V24", analysis(check, check), "spec.stages[0].promotion.analysis.checks[1].name"],
  ["V24", analysis({ ...check, threshold: {} }), "spec.stages[0].promotion.analysis.checks[0].threshold"],
  ["V24", analysis({ ...check, threshold: { min: "x" } }), "spec.stages[0].promotion.analysis.checks[0].threshold.min"],
  ["V24", analysis({ ...check, threshold: { min: "2", max: "1" } }), 'has min "2" above max "1"'],
  ["V25", promotion({ fastTrack: { source: prometheus, max: "1" } }), "spec.stages[0].promotion.fastTrack"],
  ["V25", promotion({ soak: "0s", fastTrack: { source: prometheus, max: "1" } }), 'soak is "0s"'],
  [
    "V25",
    promotion({ soak: "1h", fastTrack: { source: prometheus, max: "x" } }),
    "spec.stages[0].promotion.fastTrack.max",
  ],
  ["V26", restarts(), "spec.stages[0].promotion.restartGate.checks"],
  ["V26", restarts({ name: "", selector }), "spec.stages[0].promotion.restartGate.checks[0].name"],
  [
    "V26",
    restarts({ name: "a", selector }, { name: "a", selector }),
    "spec.stages[0].promotion.restartGate.checks[1].name",
  ],
  ["V26", restarts({ name: "a", selector: {} }), "spec.stages[0].promotion.restartGate.checks[0].selector"],
  [
    "V26",
    restarts({ name: "a", selector: { matchLabels: { "a b": "c" } } }),
    "spec.stages[0].promotion.restartGate.checks[0].selector.matchLabels",
  ],
  ["V26", events({ name: "a", selector, reasons: [] }), "spec.stages[0].promotion.eventGate.checks[0].reasons"],
  [
    "V26",
    events({ name: "a", selector: {}, reasons: ["BackOff"] }),
    "spec.stages[0].promotion.eventGate.checks[0].selector",
  ],
  [
    "V28",
    withStage({ readyChecks: { exprs: [{ apiVersion: "a/b/c", kind: "Foo", current: "true" }] } }),
    'spec.stages[0].readyChecks.exprs[0].apiVersion (stage "web") is "a/b/c"',
  ],
  ["V29", window({}), "spec.updateWindows[0] has no times"],
  ["V29", window({ ...recurring, from, to }), "spec.updateWindows[0] is recurring and absolute"],
  ["V29", window({ schedule: "@daily" }), "spec.updateWindows[0].duration is missing"],
  ["V29", window({ duration: "1h" }), "spec.updateWindows[0].schedule is missing"],
  ["V29", window({ ...recurring, duration: "0s" }), 'spec.updateWindows[0].duration is "0s"'],
  ["V29", window({ ...recurring, schedule: "TZ=UTC" }), 'spec.updateWindows[0].schedule is "TZ=UTC"'],
  ["V29", window({ ...recurring, schedule: "@every 1h" }), 'spec.updateWindows[0].schedule is "@every 1h"'],
  ["V29", window({ ...recurring, schedule: "0 0 * * 7" }), 'spec.updateWindows[0].schedule is "0 0 * * 7"'],
  ["V29", window({ ...recurring, timeZone: "Local" }), 'spec.updateWindows[0].timeZone is "Local"'],
  ["V29", window({ from }), "spec.updateWindows[0].to is missing"],
  ["V29", window({ to }), "spec.updateWindows[0].from is missing"],
  ["V29", window({ from: to, to: from }), `spec.updateWindows[0].to is "${from}"`],
  ["V29", window({ from, to: from }), `spec.updateWindows[0].to is "${from}"`],
];

const accepted: readonly (readonly [name: string, spec: object])[] = [
  ["a stage", { stages: [stage()] }],
  ["durations", { stages: [stage({ timeout: "+90s" })], interval: "1h30m", retryInterval: ".5h", timeout: "0" }],
  ["a producer", withStage({ sourceRef: { apiVersion: "example.org/v1", kind: "Foo", name: "a" } })],
  ["a Flux source", withStage({ sourceRef: { kind: "GitRepository", name: "a", namespace: "other" } })],
  ["a path that returns", withStage({ path: "/a/../b/./c" })],
  [
    "actions",
    withStage({ actions: { pre: [{ name: "a", ...wait, scope: "Lifetime" }], post: [{ name: "b", ...wait }] } }),
  ],
  ["a private host", http({ url: "http://10.0.0.1:8080/x", headersFrom: [{ name: "s", key: "X-Token" }] })],
  ["a patch by selector", patch({ target: { kind: "Pod", selector } })],
  [
    "migrations",
    migrations(migration({ from: ">=1.0.0 <2", down: [{ name: "a", ...wait }], actions: [{ name: "a", ...wait }] })),
  ],
  ["a version from an object", version({ fromObject: { ...target, fieldPath: ".data.version" } })],
  ["a version from a file", version({ fromArtifact: { stage: "web", path: "./VERSION" } })],
  ["budgets", budget({ resumeThreshold: "0.1" })],
  ["analysis", analysis(check)],
  ["gates", restarts({ name: "a", selector })],
  ["windows", window({ ...recurring, timeZone: "Europe/Berlin" })],
  ["warnings", window({ ...recurring, schedule: "0 0 31 4 *" })],
];

interface Member {
  readonly holder: Record<string, unknown>;
  readonly key: string;
}

/** Every member at every depth. */
function* members(value: unknown): Generator<Member> {
  if (typeof value !== "object" || value === null) return;
  // A list is a record by index here, and the value is the test's own copy.
  const holder = value as Record<string, unknown>;
  for (const key of Object.keys(holder)) {
    yield { holder, key };
    yield* members(holder[key]);
  }
}

describe("validateStored", () => {
  test.each([...shape, ...references, ...actions, ...versions, ...gates])("[10.9] %s denies %#", (rule, spec, path) => {
    expect(validateStored(object(spec), options)).toContain(path);
    const parsed = parseStageSet(object(spec));
    if (parsed.kind === "invalid") return; // The schema says it; it has no rule numbers.
    const findings = validateStageSet(parsed.value.spec, { namespace: "apps", name: "shop", ...options });
    expect(findings.filter(({ severity }) => severity === "deny").map((finding) => finding.rule)).toContain(rule);
  });

  test("[10.9] V3 denies a name that is no label value", () => {
    expect(validateStored(object(withStage({}), "a".repeat(63)), options)).toBeUndefined();
    expect(validateStored(object(withStage({}), "a".repeat(64)), options)).toContain("metadata.name");
  });

  test.each(accepted)("accepts %s", (_name, spec) => {
    expect(validateStored(object(spec), options)).toBeUndefined();
  });

  test("loopback passes when it is allowed", () => {
    const spec = http({ url: "http://localhost:8080" });
    expect(validateStored(object(spec), { ...options, allowLoopback: true })).toBeUndefined();
  });

  test("a URL is shown without what may be secret in it", () => {
    const text = validateStored(object(http({ url: "http://admin:hunter2@example.org/a?key=s3cr3t" })), options);
    expect(text).toContain("example.org/a");
    expect(text).not.toMatch(/admin|hunter2|s3cr3t/);
  });

  test("[10.10] three violations are all listed", () => {
    const spec = { ...budget({ freezeThreshold: "NaN" }), interval: "5 minutes", stages: [stage(), stage()] };
    expect(validateStored(object(spec), options)?.split("; ")).toEqual([
      expect.stringContaining("spec.interval"),
      expect.stringContaining("spec.stages[1].name"),
      expect.stringContaining("spec.errorBudget.freezeThreshold"),
    ]);
  });

  test("what follows an item that cannot be read is not said under its index", () => {
    const stages = [stage({ name: "Web" }), stage({ path: ".." }), stage({ path: ".." })];
    const spec = { ...version({ fromArtifact: { stage: "Web", path: "../V" } }), stages };
    expect(validateStored(object(spec), options)?.split("; ")).toEqual([
      expect.stringContaining("spec.stages[0].name"),
      expect.stringContaining("spec.version.fromArtifact.path"),
    ]);
  });

  test("the first 20 violations are listed, and how many more there are", () => {
    const stages = Array.from({ length: 30 }, () => stage());
    expect(validateStored(object({ stages }), options)?.split("; ")).toHaveLength(21);
    expect(validateStored(object({ stages }), options)).toMatch(/; and 9 more$/);
    expect(joinViolations([])).toBeUndefined();
  });

  test.each([[null], ["text"], [[]], [{ stages: [null, 1, "x", {}] }], [{ stages: { a: 1 } }]])(
    "whatever is stored is a violation, never an error: %j",
    (spec) => {
      expect(validateStored(object(spec), options)).toBeTypeOf("string");
    },
  );

  test("no value anywhere makes it throw", () => {
    const specs = [
      ...accepted.map(([, spec]) => spec),
      ...[...references, ...actions, ...gates].map(([, spec]) => spec),
    ];
    const mutated = fc.tuple(fc.constantFrom(...specs), fc.nat(), fc.jsonValue()).map(([spec, seed, value]) => {
      const copy: unknown = structuredClone(spec);
      const places = [...members(copy)];
      const place = places[seed % places.length];
      if (place !== undefined) place.holder[place.key] = value;
      return copy;
    });
    fc.assert(
      fc.property(mutated, (spec) => {
        const text = validateStored(object(spec), options);
        expect(validateStored(object(spec), options)).toBe(text);
      }),
      { numRuns: 500 },
    );
  });

  test("1,000 stages are validated in time", () => {
    const stages = Array.from({ length: 1_000 }, (_, index) =>
      stage({
        name: `stage-${index}`,
        actions: { pre: [{ name: "a", patch: { target, patch: "data: {a: b}" } }], post: [{ name: "b", ...wait }] },
        promotion: { soak: "1h", analysis: { checks: [check] }, restartGate: { checks: [{ name: "a", selector }] } },
      }),
    );
    const start = performance.now();
    expect(validateStored(object({ stages }), options)).toBeUndefined();
    expect(performance.now() - start).toBeLessThan(5_000);
  });
});
