import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readinessOf } from "../../src/domain/readiness/readiness.ts";
import { withReady } from "../../src/domain/status.ts";
import { asArray, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { publishArtifact } from "../support/artifacts.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { configMap, createStageSet, messageOf, readyOf, stageStatus, untilReady } from "../support/controller.ts";
import { createJumpingClock } from "../support/jumping-clock.ts";
import { startFaultProxy, type FaultProxy } from "../support/fault-proxy.ts";
import { deployment } from "../support/manifests.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
const minute = 60_000;
/** Of every StageSet here; far from any other time there is. */
const retryMs = 10 * minute;
const intervalMs = 30 * minute;

/** One way to come to a reason. */
interface Row {
  readonly name: string;
  readonly reason: string;
  /** What the message begins with, or says. */
  readonly message: RegExp;
  readonly condition: "Stalled" | "Reconciling" | "none";
  readonly next: "minute" | "retry" | "interval" | "backoff" | "never";
  readonly spec: Readonly<Record<string, unknown>>;
}

const one = (source: Readonly<Record<string, unknown>>, change: Readonly<Record<string, unknown>> = {}) => ({
  stages: [{ name: "app", sourceRef: source, ...change }],
});
const sound = { name: "sound" };

const rows: readonly Row[] = [
  {
    name: "succeeded",
    reason: "Succeeded",
    message: /^Applied and verified 1 stage\(s\)$/,
    condition: "none",
    next: "interval",
    spec: one(sound),
  },
  {
    name: "suspended",
    reason: "Suspended",
    message: /^Suspended by spec\.suspend$/,
    condition: "none",
    next: "never",
    spec: { ...one(sound), suspend: true },
  },
  {
    name: "broken-rule",
    reason: "InvalidSpec",
    message: /spec\.stages\[0\]\.path.*"\.\."/,
    condition: "Stalled",
    next: "minute",
    spec: one(sound, { path: ".." }),
  },
  {
    name: "claimed-twice",
    reason: "InvalidSpec",
    message: /ConfigMap .*sound.*"one".*"two"/,
    condition: "Stalled",
    next: "minute",
    spec: {
      stages: [
        { name: "one", sourceRef: sound },
        { name: "two", sourceRef: sound },
      ],
    },
  },
  {
    name: "source-not-ready",
    reason: "SourceNotReady",
    message: /^ExternalArtifact "unready" is not ready: Failed: source failed/,
    condition: "Reconciling",
    next: "retry",
    spec: one({ name: "unready" }),
  },
  {
    name: "no-source",
    reason: "ArtifactNotFound",
    message: /^ExternalArtifact ".*\/nowhere" does not exist/,
    condition: "Reconciling",
    next: "retry",
    spec: one({ name: "nowhere" }),
  },
  {
    name: "no-back-pointer",
    reason: "ArtifactNotFound",
    message: /^no ExternalArtifact points back to Producer ".*\/nobody"/,
    condition: "Reconciling",
    next: "retry",
    spec: one({ apiVersion: "example.com/v1", kind: "Producer", name: "nobody" }),
  },
  {
    name: "no-artifact",
    reason: "ArtifactNotFound",
    message: /^ExternalArtifact "bare" has no artifact yet/,
    condition: "Reconciling",
    next: "retry",
    spec: one({ name: "bare" }),
  },
  {
    name: "ambiguous",
    reason: "ResolveFailed",
    message: /^several ExternalArtifacts point back to Producer ".*\/twice": twice-1, twice-2/,
    condition: "Reconciling",
    next: "minute",
    spec: one({ apiVersion: "example.com/v1", kind: "Producer", name: "twice" }),
  },
  {
    name: "source-unreadable",
    reason: "ResolveFailed",
    message: /^Cannot read ExternalArtifact ".*\/cursed": /,
    condition: "Reconciling",
    next: "backoff",
    spec: one({ name: "cursed" }),
  },
  {
    name: "dependency-missing",
    reason: "DependencyNotReady",
    message: /^dependency ".*\/nobody" does not exist/,
    condition: "Reconciling",
    next: "retry",
    spec: { ...one(sound), dependsOn: [{ name: "nobody" }] },
  },
  {
    name: "dependency-unready",
    reason: "DependencyNotReady",
    message: /^dependency ".*\/no-source" is not ready/,
    condition: "Reconciling",
    next: "retry",
    spec: { ...one(sound), dependsOn: [{ name: "no-source" }] },
  },
  {
    name: "dependency-elsewhere",
    reason: "DependencyNotReady",
    message: /^cross-namespace StageSet "nobody" is not reachable; check the source CR's status in "default"/,
    condition: "Reconciling",
    next: "retry",
    spec: { ...one(sound), dependsOn: [{ name: "nobody", namespace: "default" }] },
  },
  {
    name: "cycle-a",
    reason: "Stalled",
    message: /^spec\.dependsOn forms a cycle/,
    condition: "Stalled",
    next: "minute",
    spec: { ...one(sound), dependsOn: [{ name: "cycle-b" }] },
  },
  {
    name: "cycle-b",
    reason: "Stalled",
    message: /^spec\.dependsOn forms a cycle/,
    condition: "Stalled",
    next: "minute",
    spec: { ...one(sound), dependsOn: [{ name: "cycle-a" }] },
  },
  {
    name: "not-built",
    reason: "StageFailed",
    message: /^stage "app" build: /,
    condition: "Reconciling",
    next: "backoff",
    spec: one({ name: "no-manifest" }),
  },
  {
    name: "not-applied",
    reason: "StageFailed",
    message: /^stage "app" apply: ConfigMap .*not-applied/,
    condition: "Reconciling",
    next: "backoff",
    spec: one({ name: "not-applied" }),
  },
  {
    name: "wrong-digest",
    reason: "StageFailed",
    message: /^stage "app" fetch artifact: .*digest/,
    condition: "Stalled",
    next: "interval",
    spec: one({ name: "wrong-digest" }),
  },
  {
    name: "still-progressing",
    reason: "StageProgressing",
    message: /^stage "app" is applied and still becoming ready: Deployment .*\(waited 1s: /,
    condition: "Reconciling",
    next: "retry",
    spec: one({ name: "never-ready" }, { timeout: "1s" }),
  },
  {
    name: "denied",
    reason: "RBACDenied",
    message: /^stage "app" apply: .*User "system:serviceaccount:.*:poor" cannot patch resource "configmaps"/,
    condition: "Stalled",
    next: "minute",
    spec: { ...one({ name: "denied" }), serviceAccountName: "poor" },
  },
  {
    name: "no-account",
    reason: "StageFailed",
    message: /^stage "app" connect to target cluster: ServiceAccount ".*\/missing" does not exist/,
    condition: "Reconciling",
    next: "backoff",
    spec: { ...one(sound), serviceAccountName: "missing" },
  },
  {
    name: "no-kind",
    reason: "RBACDenied",
    message: /^stage "app" apply: .*kind Unheard.* is not served: install the CRD/,
    condition: "Stalled",
    next: "minute",
    spec: one({ name: "no-kind" }),
  },
];

/** Finished passes per StageSet. */
async function passes({ controller, namespace }: Scene): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  const series = new RegExp(
    `^stageset_reconcile_total{(?=[^}]*namespace="${namespace}")(?=[^}]*name="([^"]*)")[^}]*} (\\d+)$`,
    "gm",
  );
  for (const [, name = "", count = "0"] of (await controller.metrics()).matchAll(series))
    counts.set(name, (counts.get(name) ?? 0) + Number(count));
  return counts;
}

describe("[10.21] every reason that can be provoked", () => {
  const clock = createJumpingClock();
  let proxy: FaultProxy;
  let scene: Scene;
  beforeAll(async () => {
    proxy = await startFaultProxy(cluster);
    // An answer that is neither a refusal nor "not found".
    proxy.onCall = ({ target }) =>
      target.includes("/externalartifacts/cursed")
        ? {
            kind: "answer",
            status: 400,
            body: {
              kind: "Status",
              apiVersion: "v1",
              status: "Failure",
              reason: "BadRequest",
              code: 400,
              message: "cursed",
            },
          }
        : undefined;
    const runbookBaseUrl = "https://runbooks.example.com/{id}?v=1";
    scene = await startScene(cluster, { clock, server: proxy.server, caPem: "", config: { runbookBaseUrl } });
    const { namespace } = scene;
    await createServiceAccount(cluster, { namespace, name: "poor" });
    const ref = (name: string) => ({
      apiVersion: "source.toolkit.fluxcd.io/v1",
      kind: "ExternalArtifact",
      metadata: { name, namespace },
    });
    const sourceRef = { apiVersion: "example.com/v1", kind: "Producer", name: "twice" };
    await Promise.all([
      scene.publish("sound", { "a.yaml": configMap("sound") }),
      scene.publish("unready", { "a.yaml": configMap("unready") }, { ready: false }),
      admin.create(ref("bare")),
      admin.create(ref("cursed")),
      scene.publish("twice-1", { "a.yaml": configMap("twice") }, { sourceRef }),
      scene.publish("twice-2", { "a.yaml": configMap("twice") }, { sourceRef }),
      scene.publish("no-manifest", { "a.yaml": "this: is\nno: manifest\n" }),
      scene.publish("not-applied", { "a.yaml": configMap("not-applied", { "not/a/key": "1" }) }),
      scene.publish("wrong-digest", { "a.yaml": configMap("wrong") }, { digest: `sha256:${"0".repeat(64)}` }),
      scene.publish("never-ready", { "a.yaml": deployment("never-ready", { pods: { neverReady: "true" } }) }),
      scene.publish("denied", { "a.yaml": configMap("denied") }),
      scene.publish("no-kind", { "a.yaml": "apiVersion: example.com/v1\nkind: Unheard\nmetadata: { name: of }\n" }),
    ]);
    const spec = { interval: `${intervalMs / minute}m`, retryInterval: `${retryMs / minute}m` };
    await Promise.all(rows.map((row) => scene.release(row.name, [], { ...spec, ...row.spec })));
    await Promise.all(
      rows.map((row) =>
        untilReady(
          cluster,
          { namespace, name: row.name },
          `${row.reason === "Succeeded" ? "True" : "False"} ${row.reason}`,
          {
            timeoutMs: 60_000,
          },
        ),
      ),
    );
  });
  afterAll(async () => {
    await scene[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
  });

  test.each(rows)("[10.21] $name is $reason with its message, condition and Event", async (row) => {
    const { namespace } = scene;
    const stageSet = await scene.get(row.name);
    const message = messageOf(stageSet);
    expect(message).toMatch(row.message);
    const linked = row.reason !== "Succeeded" && row.reason !== "Suspended";
    const suffix = ` (runbook: https://runbooks.example.com/${row.reason.toLowerCase()}?v=1)`;
    expect(message.endsWith(suffix)).toBe(linked);
    expect(message.split("(runbook: ")).toHaveLength(linked ? 2 : 1);
    const conditions = asArray(at(stageSet, "status", "conditions"));
    const others = conditions.filter((each) => at(each, "type") !== "Ready");
    expect(others).toMatchObject(
      row.condition === "none" ? [] : [{ type: row.condition, status: "True", reason: row.reason, message }],
    );
    for (const condition of conditions) expect(at(condition, "observedGeneration")).toBe(stageSet?.metadata.generation);
    await eventually(async () => {
      const events = await stageSetEvents(cluster, { namespace, name: row.name, reason: row.reason });
      expect(events).toMatchObject([
        {
          type: row.reason === "Succeeded" ? "Normal" : "Warning",
          action: row.reason,
          reportingController: "stageset-controller",
        },
      ]);
      return true;
    });
    expect(await stageSetEvents(cluster, { namespace, name: row.name, reason: "Progressing" })).toEqual([]);
  });

  test("[10.21] each is looked at again when its reason says, and Suspended never", async () => {
    const named = (next: Row["next"]) => rows.filter((row) => row.next === next).map((row) => row.name);
    /** Jumps to a point in time after the reasons were reached; which StageSets had a pass since then. */
    let elapsed = 0;
    const lookedAt = async (toMs: number, expected: readonly string[]): Promise<void> => {
      const before = await passes(scene);
      clock.jump(toMs - elapsed);
      elapsed = toMs;
      const moved = (now: ReadonlyMap<string, number>) =>
        rows.map(({ name }) => name).filter((name) => (now.get(name) ?? 0) > (before.get(name) ?? 0));
      await eventually(async () => {
        const now = moved(await passes(scene));
        expect(now).toEqual(expect.arrayContaining([...expected]));
        return true;
      });
      const backoff = new Set(named("backoff"));
      const others = moved(await passes(scene)).filter((name) => !backoff.has(name));
      expect(others.sort()).toEqual(expected.filter((name) => !backoff.has(name)).sort());
    };
    // The reasons were reached a while ago, by at most the time the tests above took.
    await lookedAt(25_000, []);
    await lookedAt(minute + 1_000, [...named("minute"), ...named("backoff")]);
    // Past ±5 % of jitter; what is looked at every minute was looked at, too.
    await lookedAt(retryMs * 1.1, [...named("retry"), ...named("minute"), ...named("backoff")]);
    const all = rows.map(({ name, next }) => [name, next] as const);
    await lookedAt(
      intervalMs * 1.1,
      all.filter(([, next]) => next !== "never").map(([name]) => name),
    );
    expect(readyOf(await scene.get("suspended"))).toBe("False Suspended");
  });

  test("[10.21] while a run is under way Ready is Unknown/Progressing, without link and Event", async () => {
    const { namespace } = scene;
    await scene.publish("running", { "a.yaml": deployment("running", { pods: { neverReady: "true" } }) });
    await scene.release("running", [{ name: "app", sourceRef: { name: "running" } }]);
    const running = await untilReady(cluster, { namespace, name: "running" }, "Unknown Progressing");
    expect(messageOf(running)).toBe("Releasing 1 stage(s)");
    expect(asArray(at(running, "status", "conditions"))).toContainEqual(
      expect.objectContaining({ type: "Reconciling", status: "True", reason: "Progressing" }),
    );
    await eventually(async () => at(stageStatus(await scene.get("running"), "app"), "phase") === "Verifying");
    expect(await stageSetEvents(cluster, { namespace, name: "running" })).toEqual([]);
  });

  test("[10.29] a grant alone mends RBACDenied within 90 s", async () => {
    const { namespace } = scene;
    const denied = await untilReady(cluster, { namespace, name: "denied" }, "False RBACDenied");
    await createServiceAccount(cluster, { namespace, name: "poor", rules: allRules });
    clock.jump(minute);
    const ready = await untilReady(cluster, { namespace, name: "denied" });
    expect(ready.metadata.generation).toBe(denied.metadata.generation);
  });

  test("[10.31] kstatus sees Failed, InProgress and Current", async () => {
    const { namespace } = scene;
    const statusOf = async (name: string) => {
      const stageSet = await scene.get(name);
      return stageSet === undefined ? undefined : readinessOf(stageSet).status;
    };
    await untilReady(cluster, { namespace, name: "succeeded" });
    expect(await statusOf("broken-rule")).toBe("Failed");
    expect(await statusOf("running")).toBe("InProgress");
    expect(await statusOf("succeeded")).toBe("Current");
    // What a hold writes, on the object that a run has just begun.
    const running = await scene.get("running");
    const soaking = withReady(
      {},
      { status: "False", reason: "Soaking", message: "soaks", stalled: false },
      { generation: running?.metadata.generation ?? 0, now: Date.now(), runbookLink: () => undefined },
    );
    expect(readinessOf({ ...(running as KubeObject), status: soaking }).status).toBe("InProgress");
  });
});

describe("[20.50] sources in another namespace", () => {
  const clock = createJumpingClock();
  let elsewhere = "";
  let scene: Scene;
  let proxy: FaultProxy;
  const kinds = ["missing", "forbidden", "not-ready", "no-artifact", "wrong-digest", "hostile"];
  beforeAll(async () => {
    elsewhere = await uniqueNamespace(cluster, "elsewhere");
    proxy = await startFaultProxy(cluster);
    proxy.onCall = ({ target }) => {
      if (!target.includes("/externalartifacts/forbidden")) return undefined;
      const message =
        'externalartifacts "forbidden" is forbidden: User "controller" cannot get resource "externalartifacts"';
      const body = { kind: "Status", apiVersion: "v1", status: "Failure", reason: "Forbidden", code: 403, message };
      return { kind: "answer", status: 403, body };
    };
    scene = await startScene(cluster, { clock, server: proxy.server, caPem: "" });
    const { server, namespace } = scene;
    const publish = (name: string, files: Readonly<Record<string, string>>, more = {}) =>
      publishArtifact(cluster, { server, namespace: elsewhere, name, files, ...more });
    await publish("not-ready", { "a.yaml": configMap("a") }, { ready: false });
    await publish("wrong-digest", { "a.yaml": configMap("a") }, { digest: `sha256:${"1".repeat(64)}` });
    await publish("hostile", { "../a.yaml": configMap("a") });
    await admin.create({
      apiVersion: "source.toolkit.fluxcd.io/v1",
      kind: "ExternalArtifact",
      metadata: { name: "no-artifact", namespace: elsewhere },
    });
    for (const name of kinds)
      await createStageSet(cluster, {
        namespace,
        name,
        spec: {
          serviceAccountName: "deployer",
          interval: "30m",
          retryInterval: "10m",
          stages: [{ name: "app", sourceRef: { name, namespace: elsewhere } }],
        },
      });
  });
  afterAll(async () => {
    await scene[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
  });

  test.each(kinds)("[20.50] %s: SourceNotReady with the one sentence", async (name) => {
    const refused = await untilReady(cluster, { namespace: scene.namespace, name }, "False SourceNotReady");
    const sentence = `cross-namespace ExternalArtifact "${name}" is not reachable; check the source CR's status in "${elsewhere}"`;
    expect(messageOf(refused).replace(/ \(runbook: [^)]*\)$/, "")).toBe(sentence);
    expect(asText(at(stageStatus(refused, "app"), "message"))).toBeUndefined();
  });

  test("[20.50] each is looked at again after retryInterval", async () => {
    const before = await passes(scene);
    const moved = (now: ReadonlyMap<string, number>) =>
      kinds.filter((name) => (now.get(name) ?? 0) > (before.get(name) ?? 0));
    clock.jump(9 * minute);
    // A pass that must not be would be over by the time this one is.
    await scene.publish("probe", { "a.yaml": configMap("probe") });
    await scene.release("probe", [{ name: "app", sourceRef: { name: "probe" } }]);
    await untilReady(cluster, { namespace: scene.namespace, name: "probe" });
    expect(moved(await passes(scene))).toEqual([]);
    clock.jump(2 * minute);
    await eventually(async () => moved(await passes(scene)).length === kinds.length);
  });
});
