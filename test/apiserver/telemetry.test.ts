import { createServer, type AddressInfo, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readyReasons, runbookId, isReadyReason } from "../../src/api/reasons.ts";
import { asObject, asText } from "../../src/lib/json.ts";
import { createServiceAccount, eventually, testCluster, type TestCluster } from "../support/cluster.ts";
import { configMap, messageOf, readyOf, stageSetRef, untilReady } from "../support/controller.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { deployment } from "../support/manifests.ts";
import { parseMetrics, sampleOf, samplesOf } from "../support/metrics-page.ts";
import { startOtlpCollector, type OtlpCollector, type ReceivedSpan } from "../support/otlp-collector.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster: TestCluster = testCluster();
const { admin } = cluster;

describe("what a running controller tells of itself", () => {
  let collector: OtlpCollector;
  let scene: Scene;
  beforeAll(async () => {
    collector = await startOtlpCollector();
    scene = await startScene(cluster, {
      config: {
        runbookBaseUrl: "https://wiki/x?page={id}",
        crossNamespace: "refused",
        tracing: { endpoint: collector.endpoint, transport: "plaintext", sampleRatio: 1 },
      },
    });
    await createServiceAccount(cluster, { namespace: scene.namespace, name: "weak" });
    await scene.publish("app", { "a.yaml": configMap("app") });
    await scene.publish("unready", { "a.yaml": configMap("unready") }, { ready: false });
    await scene.publish("broken", { "a.yaml": "kind: ConfigMap\nmetadata: {name: [}\n" });
    await scene.publish("slow", { "a.yaml": deployment("slow", { pods: { neverReady: "true" } }) });
    await scene.release("ring", [{ name: "web", sourceRef: { name: "app" } }], { dependsOn: [{ name: "r-stalled" }] });
  });
  afterAll(async () => {
    await scene[Symbol.asyncDispose]();
    await collector[Symbol.asyncDispose]();
  });

  const records = (): readonly Readonly<Record<string, unknown>>[] =>
    scene.controller.logs.flatMap((line) => {
      const record = asObject(JSON.parse(line));
      return record === undefined ? [] : [record];
    });

  describe("[60.11] each reason: counter, one Event, runbook", () => {
    const stage = (name: string): Record<string, unknown> => ({ name: "web", sourceRef: { name } });
    const rows: readonly (readonly [reason: string, stage: Record<string, unknown>, spec?: Record<string, unknown>])[] =
      [
        ["Succeeded", stage("app")],
        ["Suspended", stage("app"), { suspend: true }],
        ["ArtifactNotFound", stage("missing")],
        ["SourceNotReady", stage("unready")],
        ["DependencyNotReady", stage("app"), { dependsOn: [{ name: "nobody" }] }],
        ["Stalled", stage("app"), { dependsOn: [{ name: "ring" }] }],
        ["InvalidSpec", { ...stage("app"), path: "../x" }],
        ["ResolveFailed", { name: "web", sourceRef: { name: "app", namespace: "elsewhere" } }],
        ["RBACDenied", stage("app"), { serviceAccountName: "weak" }],
        ["StageFailed", stage("broken")],
        ["StageProgressing", stage("slow"), { timeout: "1s" }],
      ];
    for (const [reason, of, spec] of rows)
      test.concurrent(reason, async () => {
        const name = `r-${reason.toLowerCase()}`;
        const { namespace } = scene;
        await scene.release(name, [of], { interval: "1h", retryInterval: "1h", ...spec });
        const told = await eventually(async () => {
          const stageSet = await scene.get(name);
          return readyOf(stageSet).endsWith(` ${reason}`) ? stageSet : undefined;
        });
        const link = ` (runbook: https://wiki/x?page=${reason.toLowerCase()})`;
        if (reason === "Succeeded" || reason === "Suspended") expect(messageOf(told)).not.toContain("runbook");
        else expect(messageOf(told).endsWith(link), messageOf(told)).toBe(true);
        await eventually(async () => {
          const page = await scene.controller.metrics();
          const ends = records().filter(
            (record) => record["name"] === name && record["reconcileID"] !== undefined && record["level"] !== "DEBUG",
          );
          expect(sampleOf(page, "stageset_reconcile_total", { namespace, name, reason })).toBe(ends.length);
          expect(samplesOf(page, "stageset_ready", { namespace, name })).toMatchObject([
            { labels: { reason }, value: reason === "Succeeded" ? 1 : 0 },
          ]);
          const events = await stageSetEvents(cluster, { namespace, name });
          expect(events.filter((event) => event.reason === reason)).toMatchObject([
            { type: reason === "Succeeded" ? "Normal" : "Warning", action: reason, count: 1 },
          ]);
          return true;
        });
      });

    test("no reason is without a class, and ids are the reasons in lower case", () => {
      for (const reason of Object.keys(readyReasons))
        if (isReadyReason(reason)) expect(runbookId(reason)).toBe(reason.toLowerCase());
    });
  });

  test("[60.15] every record is JSON of four levels; those of a pass carry its id, its StageSet and its trace", async () => {
    await scene.release("logged", [{ name: "web", sourceRef: { name: "app" } }]);
    await untilReady(cluster, { namespace: scene.namespace, name: "logged" });
    await eventually(() =>
      records().some((record) => record["name"] === "logged" && record["msg"] === "StageSet synced"),
    );
    const levels = new Set(records().map((record) => record["level"]));
    expect([...levels].filter((level) => !["DEBUG", "INFO", "WARN", "ERROR"].includes(asText(level) ?? ""))).toEqual(
      [],
    );
    const ofPasses = records().filter((record) => record["controller"] === "stageset");
    expect(ofPasses.length).toBeGreaterThan(3);
    for (const record of ofPasses) {
      expect(record).toMatchObject({ controllerGroup: "stages.metio.wtf", controllerKind: "StageSet" });
      expect(record["reconcileID"]).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      expect(record["traceID"]).toMatch(/^[0-9a-f]{32}$/);
      expect(record["time"]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
      expect(record["namespace"]).toBe(scene.namespace);
    }
    const ids = ofPasses
      .filter((record) => record["msg"] === "reconciling StageSet")
      .map((record) => record["reconcileID"]);
    expect(new Set(ids).size).toBe(ids.length);
  });

  // The spans of spec 60 §9 whose features exist.
  test("[60.16] a collector receives one tree per pass, and the phase that failed as an error", async () => {
    const tree = (name: string): readonly ReceivedSpan[] => {
      const root = collector.spans.find(
        (span) =>
          span.attributes["stageset.name"] === name &&
          collector.spans.some((each) => each.parentSpanId === span.spanId && each.name === "stage.fetch"),
      );
      return root === undefined ? [] : collector.spans.filter((span) => span.traceId === root.traceId);
    };
    await eventually(() => tree("r-stagefailed").length > 1 && tree("r-succeeded").length > 1);
    const good = tree("r-succeeded");
    const root = good.find((span) => span.parentSpanId === "");
    expect(root).toMatchObject({
      name: "StageSet.Reconcile",
      attributes: { "stageset.namespace": scene.namespace, "stageset.name": "r-succeeded", "stageset.generation": 1 },
      resource: { "service.name": "stageset-controller" },
    });
    for (const name of ["stage.fetch", "stage.build", "stage.apply", "stage.verify"])
      expect(good.find((span) => span.name === name)).toMatchObject({
        parentSpanId: root?.spanId,
        attributes: { stage: "web" },
        failed: false,
      });
    const inOrder = good.toSorted((a, b) => (a.startedAt < b.startedAt ? -1 : 1)).map((span) => span.name);
    expect(inOrder).toEqual(["StageSet.Reconcile", "stage.fetch", "stage.build", "stage.apply", "stage.verify"]);
    expect(good.find((span) => span.name === "stage.fetch")?.attributes["stage.digest"]).toMatch(/^sha256:/);
    expect(good.find((span) => span.name === "stage.apply")?.attributes["stage.objectCount"]).toBe(1);
    const bad = tree("r-stagefailed");
    expect(bad.find((span) => span.name === "stage.fetch")?.failed).toBe(false);
    expect(bad.find((span) => span.name === "stage.build")).toMatchObject({ failed: true, events: ["exception"] });
    expect(bad.find((span) => span.name === "StageSet.Reconcile")).toMatchObject({
      failed: true,
      attributes: { "stageset.reason": "StageFailed" },
    });
  });

  test("[60.16] an action is a span with its list, and a failed one says why", async () => {
    const target = { apiVersion: "v1", kind: "ConfigMap", name: "is-not-there" };
    const actions = {
      pre: [{ name: "fine", wait: { duration: "1ms" } }],
      post: [{ name: "fails", patch: { target, patch: "{}" } }],
    };
    await scene.release("acting", [{ name: "web", sourceRef: { name: "app" }, actions }]);
    const spans = (phase: string) =>
      collector.spans.filter(({ name, attributes }) => name === "stage.actions" && attributes["phase"] === phase);
    await eventually(() => spans("pre").length > 0 && spans("post").length > 0);
    expect(spans("pre")[0]).toMatchObject({ attributes: { stage: "web", "stage.action": "fine" }, failed: false });
    expect(spans("post")[0]).toMatchObject({ attributes: { stage: "web", "stage.action": "fails" }, failed: true });
  });

  test("[60.16] the update windows are a span that says whether they defer", async () => {
    const [from, to] = [-1, 1].map((hours) => new Date(Date.now() + hours * 3_600_000).toISOString());
    for (const type of ["Allow", "Deny"])
      await scene.release(`windowed-${type.toLowerCase()}`, [{ name: "web", sourceRef: { name: "app" } }], {
        updateWindows: [{ type, from, to }],
      });
    const deferred = (name: string): unknown => {
      const trace = collector.spans.find((span) => span.attributes["stageset.name"] === name)?.traceId;
      const gate = collector.spans.find((span) => span.traceId === trace && span.name === "stageset.gateWindows");
      return gate?.attributes["stageset.deferred"];
    };
    await eventually(() => deferred("windowed-allow") === false && deferred("windowed-deny") === true);
  });

  test("what is pruned is a phase of its pass, and no attribute has content of manifests", async () => {
    const { namespace } = scene;
    await scene.publish("pruning", {
      "a.yaml": configMap("pruning-a", { k: "0f-a-manifest" }),
      "b.yaml": configMap("pruning-b"),
    });
    await scene.release("pruning", [{ name: "web", sourceRef: { name: "pruning" } }]);
    await untilReady(cluster, { namespace, name: "pruning" });
    await scene.publish("pruning", { "a.yaml": configMap("pruning-a", { k: "0f-a-manifest" }) });
    await eventually(async () => (await scene.object("pruning-b")) === undefined);
    const prune = await eventually(() => collector.spans.find((span) => span.name === "stageset.prune"));
    const root = await eventually(() => collector.spans.find((span) => span.spanId === prune.parentSpanId));
    expect(root.attributes).toMatchObject({ "stageset.name": "pruning" });
    expect(JSON.stringify(collector.spans)).not.toContain("0f-a-manifest");
  });

  test("[60.14] drift of 300 objects is one Event of at most 1024 bytes", async () => {
    const { namespace } = scene;
    const many = Array.from({ length: 300 }, (_, index) => configMap(`drifting-${index}`, { k: "1" }));
    await scene.publish("many", { "a.yaml": many.join("---\n") });
    await scene.release("drift", [{ name: "web", sourceRef: { name: "many" } }]);
    await untilReady(cluster, { namespace, name: "drift" }, "True Succeeded", { timeoutMs: 60_000 });
    const selector = `/api/v1/namespaces/${namespace}/configmaps?labelSelector=stages.metio.wtf/name%3Ddrift`;
    await admin.request("DELETE", selector);
    await admin.patch(stageSetRef(namespace, "drift"), {
      metadata: { annotations: { "reconcile.fluxcd.io/requestedAt": "now" } },
    });
    const events = await eventually(
      async () => {
        const found = await stageSetEvents(cluster, { namespace, name: "drift", reason: "DriftCorrected" });
        return found.length > 0 ? found : undefined;
      },
      { timeoutMs: 60_000 },
    );
    for (const { note } of events) expect(Buffer.byteLength(note)).toBeLessThanOrEqual(1024);
    await eventually(async () => {
      const page = await scene.controller.metrics();
      expect(sampleOf(page, "stageset_drift_corrected_total", { name: "drift", stage: "web" })).toBe(300);
      return true;
    });
  });

  test("[60.12] the gauge is 0 before the first write of a new revision, and 1 again when it is verified", async () => {
    const { namespace } = scene;
    const ready = async (): Promise<number | undefined> =>
      sampleOf(await scene.controller.metrics(), "stageset_stage_ready", {
        namespace,
        stageset: "rolling",
        stage: "web",
      });
    await scene.publish("rolling", { "a.yaml": configMap("rolling", { v: "1" }) });
    await scene.release("rolling", [{ name: "web", sourceRef: { name: "rolling" } }]);
    await untilReady(cluster, { namespace, name: "rolling" });
    await eventually(async () => expect(await ready()).toBe(1));
    const seen: (readonly [revision: unknown, gauge: number | undefined])[] = [];
    const over = new AbortController();
    const watch = (async () => {
      while (!over.signal.aborted) {
        // The gauge is read after the object: a 1 beside the new content is only right once it is verified.
        const object = await scene.object("rolling");
        seen.push([asObject(object?.["data"])?.["v"], await ready()]);
      }
    })();
    await scene.publish("rolling", {
      "a.yaml": configMap("rolling", { v: "2" }) + "---\n" + deployment("rolling", { pods: { readyAfter: "2s" } }),
    });
    await eventually(() => seen.some(([revision, gauge]) => revision === "2" && gauge === 1), { timeoutMs: 60_000 });
    over.abort();
    await watch;
    const first = seen.findIndex(([revision]) => revision === "2");
    expect(seen[first]?.[1]).toBe(0);
    expect(seen.slice(first).map(([, gauge]) => gauge)).toEqual(
      seen
        .slice(first)
        .map(([, gauge]) => gauge)
        .toSorted(),
    );
  });

  // What was released, drifted and refused leaves nothing behind.
  test("[60.13] series of what is gone vanish, and the families of controllers are there", async () => {
    const { namespace } = scene;
    const ref = stageSetRef(namespace, "leaving");
    await scene.publish("leaving-one", { "a.yaml": configMap("leaving-one") });
    await scene.publish("leaving-two", { "a.yaml": configMap("leaving-two") });
    const stages = ["one", "two"].map((name) => ({ name, sourceRef: { name: `leaving-${name}` } }));
    await scene.release("leaving", stages, { interval: "1s", retryInterval: "1s" });
    await untilReady(cluster, { namespace, name: "leaving" });
    await admin.delete({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "leaving-two", namespace } });
    await eventually(async () => {
      const page = await scene.controller.metrics();
      expect(sampleOf(page, "stageset_drift_corrected_total", { name: "leaving", stage: "two" })).toBe(1);
      expect(sampleOf(page, "stageset_stage_ready", { stageset: "leaving", stage: "two" })).toBe(1);
      return true;
    });
    expect((await families("leaving", "two")).toSorted()).toEqual([
      "stageset_drift_corrected_total",
      "stageset_inventory_skipped_entries_total",
      "stageset_stage_applied_total",
      "stageset_stage_ready",
    ]);
    await admin.patch(ref, { spec: { stages: stages.slice(0, 1) } });
    await eventually(async () => expect(await families("leaving", "two")).toEqual([]));
    await untilReady(cluster, { namespace, name: "leaving" });
    await admin.patch(ref, { spec: { serviceAccountName: "weak" } });
    await untilReady(cluster, { namespace, name: "leaving" }, "False RBACDenied");
    expect(await families("leaving", "two")).toEqual([]);
    expect(await families("leaving")).toContain("stageset_ready");
    await admin.patch(ref, { spec: { serviceAccountName: "deployer" } });
    await untilReady(cluster, { namespace, name: "leaving" });
    await admin.delete(ref);
    await eventually(async () => expect(await admin.get(ref)).toBeUndefined());
    await eventually(async () => expect(await families("leaving")).toEqual([]));
    // Nothing that was under way brings one back.
    await scene.release("after-leaving", [{ name: "web", sourceRef: { name: "app" } }]);
    await untilReady(cluster, { namespace, name: "after-leaving" });
    expect(await families("leaving")).toEqual([]);
    const page = await scene.controller.metrics();
    const names = new Set(parseMetrics(page).map((sample) => sample.name));
    for (const name of standardFamilies) expect([...names], name).toContain(name);
  });

  /** Families with a series of the StageSet, or of one of its stages. */
  const families = async (name: string, stage?: string): Promise<readonly string[]> => {
    const samples = parseMetrics(await scene.controller.metrics()).filter(
      ({ labels }) =>
        (labels["name"] ?? "") + (labels["stageset"] ?? "") === name &&
        (stage === undefined || labels["stage"] === stage),
    );
    return [...new Set(samples.map((sample) => sample.name))];
  };
});

test("the trace of a pass goes along with its calls to the API server, and never with a fetch", async () => {
  await using collector = await startOtlpCollector();
  await using proxy = await startFaultProxy(cluster);
  const tracing = { endpoint: collector.endpoint, transport: "plaintext", sampleRatio: 1 } as const;
  await using scene = await startScene(cluster, { server: proxy.server, caPem: "", config: { tracing } });
  const { namespace } = scene;
  const { path } = await scene.publish("traced", { "a.yaml": configMap("traced") });
  await scene.release("traced", [{ name: "web", sourceRef: { name: "traced" } }]);
  await untilReady(cluster, { namespace, name: "traced" });
  const applies = proxy.calls.filter(
    ({ method, target }) => method === "PATCH" && target.includes("/configmaps/traced"),
  );
  expect(applies.length).toBeGreaterThan(0);
  const traces = new Set(
    applies.map(({ traceparent }) => /^00-([0-9a-f]{32})-[0-9a-f]{16}-01$/.exec(traceparent)?.[1]),
  );
  await eventually(() =>
    [...traces].every((trace) =>
      collector.spans.some(({ traceId, name }) => traceId === trace && name === "stage.apply"),
    ),
  );
  expect(scene.server.count(path)).toBe(1);
  for (const { headers } of scene.server.requests) expect(Object.keys(headers)).not.toContain("traceparent");
});

describe.concurrent("[60.16] a collector that is no use", () => {
  test.each(["absent", "silent"] as const)("%s: passes and the end of the process are as they were", async (kind) => {
    const silent = createServer((socket) => socket.on("error", () => socket.destroy()));
    await new Promise<void>((resolve) => void silent.listen(0, "127.0.0.1", resolve));
    const { port } = silent.address() as AddressInfo; // A TCP listener's address is never text.
    const sockets = new Set<Socket>();
    silent.on("connection", (socket) => sockets.add(socket));
    if (kind === "absent") silent.close();
    const tracing = { endpoint: `127.0.0.1:${port}`, transport: "plaintext", sampleRatio: 1 } as const;
    const scene = await startScene(cluster, { config: { tracing } });
    const { namespace } = scene;
    for (const name of ["one", "two", "three"]) {
      await scene.publish(name, { "a.yaml": configMap(name) });
      await scene.release(name, [{ name: "web", sourceRef: { name } }]);
    }
    for (const name of ["one", "two", "three"]) await untilReady(cluster, { namespace, name });
    const page = await scene.controller.metrics();
    expect(sampleOf(page, "controller_runtime_reconcile_time_seconds_sum", { controller: "stageset" })).toBeLessThan(
      3 * 5,
    );
    const began = performance.now();
    await scene[Symbol.asyncDispose]();
    // 5 s for the spans (spec 60 §1), and what the rest takes.
    expect(performance.now() - began).toBeLessThan(15_000);
    for (const socket of sockets) socket.destroy();
    silent.close();
  });
});

const standardFamilies = [
  "controller_runtime_reconcile_total",
  "controller_runtime_reconcile_errors_total",
  "controller_runtime_reconcile_time_seconds_bucket",
  "controller_runtime_max_concurrent_reconciles",
  "controller_runtime_active_workers",
  "workqueue_depth",
  "workqueue_adds_total",
  "workqueue_queue_duration_seconds_bucket",
  "workqueue_work_duration_seconds_bucket",
  "workqueue_unfinished_work_seconds",
  "workqueue_longest_running_processor_seconds",
  "workqueue_retries_total",
  "rest_client_requests_total",
  "process_resident_memory_bytes",
  "process_cpu_seconds_total",
  "stageset_build_info",
];
