/** A spec that breaks a rule of spec 10 §12, and how the message begins to tell of it. */
export type InvalidRow = readonly [rule: string, spec: Readonly<Record<string, unknown>>, path: string];

type Fields = Readonly<Record<string, unknown>>;

/** What every spec of a row would release if it were run. */
const sourceRef = { name: "app" };
const stage = (change: Fields = {}): Fields => ({ name: "web", sourceRef, ...change });
const one = (change: Fields): Fields => ({ stages: [stage(change)] });
const all = (change: Fields): Fields => ({ stages: [stage()], ...change });
const action = (change: Fields, list = "pre"): Fields => one({ actions: { [list]: [{ name: "act", ...change }] } });
const wait = { wait: { duration: "1s" } };
const target = { kind: "ConfigMap", name: "settings" };
const selector = { matchLabels: { app: "web" } };
const patch = (change: Fields): Fields => action({ patch: { target, patch: "data: {a: b}", ...change } });
const http = (change: Fields): Fields => action({ http: { url: "https://example.org", ...change } });
const version = { value: "1.0.0" };
const migration = (change: Fields = {}): Fields => ({ name: "m", to: "2.0.0", ...change });
const migrations = (...list: readonly Fields[]): Fields => all({ version, migrations: list });
const prometheus = { prometheus: { address: "http://prometheus:9090", query: "up" } };
const budget = (change: Fields): Fields =>
  all({ errorBudget: { source: prometheus, freezeThreshold: "0.1", ...change } });
const promotion = (change: Fields): Fields => one({ promotion: change });
const check = { name: "errors", source: prometheus, threshold: { max: "0.1" } };
const analysis = (...checks: readonly Fields[]): Fields => promotion({ analysis: { checks } });
const window = (change: Fields): Fields => all({ updateWindows: [{ type: "Allow", ...change }] });
const recurring = { schedule: "0 8 * * *", duration: "1h" };
const from = "2026-01-01T00:00:00Z";
const to = "2099-01-02T00:00:00Z";
const expression = (change: Fields): Fields =>
  one({ readyChecks: { exprs: [{ apiVersion: "v1", kind: "ConfigMap", ...change }] } });
const pre = "spec.stages[0].actions.pre[0]";

/** Rules the schema cannot state: the API server stores these when no webhook refuses them. */
export const ruleRows: readonly InvalidRow[] = [
  ["V2", one({ timeout: "9999999999h" }), "spec.stages[0].timeout"],
  ["V4", { stages: [stage(), stage()] }, "spec.stages[1].name"],
  ["V5", one({ sourceRef: { name: "" } }), "spec.stages[0].sourceRef.name"],
  ["V5", all({ dependsOn: [{ name: "" }] }), "spec.dependsOn[0].name"],
  ["V5", one({ postBuild: { substituteFrom: [{ kind: "Secret", name: "" }] } }), "spec.stages[0].postBuild"],
  ["V5", one({ readyChecks: { checks: [{ kind: "Pod", name: "" }] } }), "spec.stages[0].readyChecks.checks[0].name"],
  ["V5", action({ delete: { target: { kind: "", name: "x" } } }), `${pre}.delete.target.kind`],
  ["V6", one({ sourceRef: { kind: "HelmChart", name: "app" } }), "spec.stages[0].sourceRef.apiVersion"],
  ["V6", action({ job: { sourceRef: { kind: "Foo", name: "app" } } }), `${pre}.job.sourceRef.apiVersion`],
  ["V7", one({ path: "../x" }), "spec.stages[0].path"],
  ["V7", action({ apply: { sourceRef, path: ".." } }), `${pre}.apply.path`],
  ["V9", all({ dependsOn: [{ name: "other", minVersion: "x" }] }), "spec.dependsOn[0].minVersion"],
  ["V10", action({}), pre],
  ["V10", action({ ...wait, delete: { target } }), pre],
  ["V10", action({ ...wait, name: "" }), `${pre}.name`],
  [
    "V10",
    one({ actions: { pre: [{ name: "a", ...wait }], post: [{ name: "a", ...wait }] } }),
    "spec.stages[0].actions.post[0].name",
  ],
  [
    "V10",
    all({
      onRollback: [
        { name: "a", ...wait },
        { name: "a", ...wait },
      ],
    }),
    "spec.onRollback[1].name",
  ],
  ["V11", patch({ target: { kind: "ConfigMap" } }), `${pre}.patch.target`],
  ["V11", patch({ target: { kind: "Pod", selector: {} } }), `${pre}.patch.target.selector`],
  ["V11", patch({ patch: "a: [" }), `${pre}.patch.patch`],
  ["V12", http({ url: "example.org" }), `${pre}.http.url`],
  ["V12", http({ url: "http://0xa9fea9fe/latest" }), `${pre}.http.url`],
  ["V12", http({ bodyFrom: { name: "s" } }), `${pre}.http.bodyFrom.key`],
  ["V12", http({ headersFrom: [{ name: "s", key: "a b" }] }), `${pre}.http.headersFrom[0].key`],
  ["V13", action({ wait: { expr: "true" } }), `${pre}.wait.target`],
  ["V13", action({ wait: { expr: "status.phase ==", target } }), `${pre}.wait.expr`],
  ["V13", action({ wait: { expr: "1 + 1", target } }, "onFailure"), "spec.stages[0].actions.onFailure[0].wait.expr"],
  ["V14", action({ ...wait, scope: "Version" }), `${pre}.scope`],
  ["V14", action({ ...wait, completionAnchor: { apiVersion: "v1", ...target } }), `${pre}.completionAnchor`],
  ["V15", action({ ...wait, scope: "Revision" }, "onFailure"), "spec.stages[0].actions.onFailure[0].scope"],
  ["V16", all({ migrations: [migration()] }), "spec.migrations"],
  ["V16", all({ migrationsSourceRef: { sourceRef } }), "spec.migrationsSourceRef"],
  ["V16", migrations(migration(), migration()), "spec.migrations[1].name"],
  ["V16", migrations(migration({ to: "2.x" })), "spec.migrations[0].to"],
  ["V16", migrations(migration({ from: "v1.0.0" })), "spec.migrations[0].from"],
  ["V16", migrations(migration({ stage: "db" })), "spec.migrations[0].stage"],
  ["V16", migrations(migration({ actions: [{ name: "down/a", ...wait }] })), "spec.migrations[0].actions[0].name"],
  [
    "V16",
    migrations(migration({ actions: [{ name: "a", ...wait, retries: 11 }] })),
    "spec.migrations[0].actions[0].retries",
  ],
  ["V17", all({ version: {} }), "spec.version"],
  ["V17", all({ version: { value: "latest" } }), "spec.version.value"],
  ["V17", all({ version: { fromArtifact: { stage: "db", path: "V" } } }), "spec.version.fromArtifact.stage"],
  ["V17", all({ version: { fromObject: { ...target, fieldPath: "{.a" } } }), "spec.version.fromObject.fieldPath"],
  [
    "V18",
    { stages: [stage({ migrationAnchor: "web" })], version, migrations: [migration()] },
    "spec.stages[0].migrationAnchor",
  ],
  [
    "V19",
    all({ version, migrationsSourceRef: { sourceRef: { name: "m", namespace: "elsewhere" } } }),
    "spec.migrationsSourceRef.sourceRef.namespace",
  ],
  ["V22", budget({ source: {} }), "spec.errorBudget.source"],
  ["V22", budget({ source: { webhook: { url: "x", jsonPath: ".a" } } }), "spec.errorBudget.source.webhook.url"],
  [
    "V22",
    budget({ source: { webhook: { url: "https://example.org", jsonPath: "a" } } }),
    "spec.errorBudget.source.webhook.jsonPath",
  ],
  ["V23", budget({ freezeThreshold: "NaN" }), "spec.errorBudget.freezeThreshold"],
  ["V23", budget({ resumeThreshold: "0.05" }), "spec.errorBudget.resumeThreshold"],
  ["V24", analysis(check, check), "spec.stages[0].promotion.analysis.checks[1].name"],
  ["V24", analysis({ ...check, threshold: { min: "2", max: "1" } }), "spec.stages[0].promotion.analysis.checks[0]"],
  ["V25", promotion({ fastTrack: { source: prometheus, max: "1" } }), "spec.stages[0].promotion.fastTrack"],
  [
    "V25",
    promotion({ soak: "1h", fastTrack: { source: prometheus, max: "x" } }),
    "spec.stages[0].promotion.fastTrack.max",
  ],
  ["V26", promotion({ restartGate: { checks: [] } }), "spec.stages[0].promotion.restartGate.checks"],
  [
    "V26",
    promotion({ restartGate: { checks: [{ name: "a", selector: {} }] } }),
    "spec.stages[0].promotion.restartGate.checks[0].selector",
  ],
  [
    "V26",
    promotion({ eventGate: { checks: [{ name: "", selector, reasons: ["BackOff"] }] } }),
    "spec.stages[0].promotion.eventGate.checks[0].name",
  ],
  ["V28", expression({ apiVersion: "a/b/c", current: "true" }), "spec.stages[0].readyChecks.exprs[0].apiVersion"],
  ["V28", expression({ current: "status.phase ==" }), "spec.stages[0].readyChecks.exprs[0].current"],
  ["V28", expression({ current: "true", failed: "1 + 1" }), "spec.stages[0].readyChecks.exprs[0].failed"],
  ["V29", window({}), "spec.updateWindows[0]"],
  ["V29", window({ ...recurring, from, to }), "spec.updateWindows[0]"],
  ["V29", window({ ...recurring, duration: "0s" }), "spec.updateWindows[0].duration"],
  ["V29", window({ ...recurring, schedule: "TZ=UTC" }), "spec.updateWindows[0].schedule"],
  ["V29", window({ ...recurring, schedule: "@every 1h" }), "spec.updateWindows[0].schedule"],
  ["V29", window({ ...recurring, schedule: "0 0 * * 7" }), "spec.updateWindows[0].schedule"],
  ["V29", window({ ...recurring, timeZone: "Local" }), "spec.updateWindows[0].timeZone"],
  ["V29", window({ from: to, to: from }), "spec.updateWindows[0].to"],
];

/** Rules the schema states, too: stored only where a laxer schema once was. */
export const schemaRows: readonly InvalidRow[] = [
  ["V1", {}, "spec.stages"],
  ["V1", { stages: [] }, "spec.stages"],
  ["V2", all({ interval: "5 minutes" }), "spec.interval"],
  ["V2", one({ timeout: "1d" }), "spec.stages[0].timeout"],
  ["V4", { stages: [stage({ name: "Web" })] }, "spec.stages[0].name"],
  ["V16", migrations(migration({ actions: [{ name: "a", ...wait, retries: 101 }] })), "spec.migrations[0].actions[0]"],
  ["V20", all({ decryption: { provider: "pgp" } }), "spec.decryption.provider"],
  ["V21", all({ kubeConfig: {} }), "spec.kubeConfig"],
  ["V21", all({ kubeConfig: { secretRef: { name: "a" }, configMapRef: { name: "b" } } }), "spec.kubeConfig"],
  ["V23", budget({ onSourceError: "Ignore" }), "spec.errorBudget.onSourceError"],
  ["V24", analysis(), "spec.stages[0].promotion.analysis.checks"],
  [
    "V26",
    promotion({ eventGate: { checks: [{ name: "a", selector, reasons: [] }] } }),
    "spec.stages[0].promotion.eventGate.checks[0].reasons",
  ],
  ["V31", all({ onTimeout: "hold" }), "spec.onTimeout"],
  ["V31", all({ windowScope: "None" }), "spec.windowScope"],
  ["V31", one({ conflictPolicy: { default: "Ignore" } }), "spec.stages[0].conflictPolicy.default"],
];

/** Specs that are odd but valid: what is told of them as a warning. For a controller with `--no-cross-namespace-refs`. */
export const warningRows: readonly InvalidRow[] = [
  ["V2", all({ timeout: "-1s" }), "spec.timeout"],
  ["V8", one({ sourceRef: { name: "app", namespace: "elsewhere" } }), "spec.stages[0].sourceRef.namespace"],
  ["V8", all({ dependsOn: [{ name: "a", namespace: "elsewhere" }] }), "spec.dependsOn[0].namespace"],
  ["V9", all({ dependsOn: [{ name: "a" }, { name: "a" }] }), "spec.dependsOn[1]"],
  ["V12", action({ http: { url: "https://example.org" } }), `${pre}.http.url`],
  ["V12", action({ http: { url: "http://prometheus", body: "x", bodyFrom: { name: "s", key: "k" } } }), `${pre}.http`],
  ["V13", action({ wait: {} }), `${pre}.wait`],
  ["V13", action({ wait: { duration: "1s", expr: "true", target } }), `${pre}.wait`],
  ["V18", one({ migrationAnchor: "web" }), "spec.stages[0].migrationAnchor"],
  [
    "V25",
    promotion({ soak: "1h", fastTrack: { source: prometheus, max: "1", after: "1h" } }),
    "spec.stages[0].promotion.fastTrack.after",
  ],
  ["V27", all({ onTimeout: "Rollback" }), "spec.onTimeout"],
  ["V28", expression({}), "spec.stages[0].readyChecks.exprs[0]"],
  ["V29", window({ schedule: "0 0 31 4 *", duration: "1h" }), "spec.updateWindows[0].schedule"],
  ["V29", window({ from, to, timeZone: "UTC" }), "spec.updateWindows[0].timeZone"],
  ["V30", one({ force: true, conflictPolicy: {} }), "spec.stages[0].force"],
  [
    "V30",
    one({ conflictPolicy: { rules: [{ target: { kind: "PersistentVolumeClaim" }, action: "Recreate" }] } }),
    "spec.stages[0].conflictPolicy.rules[0]",
  ],
];
