import { request } from "node:https";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { apiVersion } from "../../src/api/group.ts";
import { rows } from "../../scripts/monitoring/dashboard.ts";
import { startPrometheus, type DeliveryProgram } from "../../src/dev/delivery-programs.ts";
import { asArray, asObject, asText, at } from "../../src/lib/json.ts";
import { installWebhook, type WebhookInstall } from "../support/admission.ts";
import { publishArtifact, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { controllerToken } from "../support/controller-account.ts";
import { configMap, createStageSet, readyOf, stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { startControllerProcess, type ControllerProcess } from "../support/controller-process.ts";
import { freePort } from "../../src/dev/free-port.ts";
import { deployment } from "../support/manifests.ts";
import { parseMetrics, sampleOf } from "../support/metrics-page.ts";
import { follow, type History } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;

/** Three programs, as a Deployment of three replicas runs them, and a Prometheus that scrapes them. */
describe("three replicas", () => {
  let namespace = "";
  let server: ArtifactServer;
  let install: WebhookInstall;
  let prometheus: DeliveryProgram;
  const replicas: Replica[] = [];
  interface Replica {
    readonly program: ControllerProcess;
    readonly webhookPort: number;
  }

  const start = async (): Promise<Replica> => {
    const webhookPort = await freePort();
    const program = await startControllerProcess({
      server: cluster.server,
      caPem: cluster.caPem,
      token: await controllerToken(cluster),
      namespaces: [namespace],
      args: [
        "--leader-elect",
        `--leader-election-namespace=${install.namespace}`,
        ...install.flags.filter((flag) => !flag.startsWith("--webhook-port")),
        `--webhook-port=${webhookPort}`,
      ],
    });
    return { program, webhookPort };
  };
  const metricsOf = async ({ program }: Replica): Promise<string> =>
    (await fetch(`${program.metricsUrl}/metrics`)).text();
  const leads = async (replica: Replica): Promise<boolean> =>
    sampleOf(await metricsOf(replica), "leader_election_master_status") === 1;
  const leader = (): Promise<Replica> =>
    eventually(
      async () => {
        for (const replica of replicas) if (await leads(replica)) return replica;
        return undefined;
      },
      { timeoutMs: 60_000 },
    );
  const others = (than: Replica): readonly Replica[] => replicas.filter((each) => each !== than);
  const publish = (name: string, files: Readonly<Record<string, string>>): Promise<unknown> =>
    publishArtifact(cluster, { server, namespace, name, files });
  const stagesOf = (name: string): Promise<unknown> =>
    createStageSet(cluster, {
      namespace,
      name,
      spec: {
        serviceAccountName: "deployer",
        stages: [
          { name: "one", sourceRef: { name: `${name}-one` } },
          { name: "two", sourceRef: { name: `${name}-two` } },
        ],
      },
    });
  /** A release of one stage that something may hold. */
  const guarded = async (
    name: string,
    { spec = {}, stage = {} }: { readonly spec?: object; readonly stage?: object },
  ) => {
    await publish(`${name}-one`, { "a.yaml": configMap(name) });
    const stages = [{ name: "one", sourceRef: { name: `${name}-one` }, ...stage }];
    await createStageSet(cluster, { namespace, name, spec: { serviceAccountName: "deployer", ...spec, stages } });
  };
  /** A release whose first stage takes a while, so that the leader can go while it verifies. */
  const beginRelease = async (name: string): Promise<void> => {
    await publish(`${name}-one`, { "a.yaml": deployment(name, { pods: { readyAfter: "3s" } }) });
    await publish(`${name}-two`, { "a.yaml": configMap(name) });
    await stagesOf(name);
    await eventually(async () => {
      const stageSet = await admin.get(stageSetRef(namespace, name));
      return asText(at(stageStatus(stageSet, "one"), "phase")) === "Verifying";
    });
  };
  /** Milliseconds until the second stage's object is there; the gate must not open for it before. */
  const untilSecondStage = async (name: string, since: number): Promise<number> => {
    const created = await eventually(
      async () => {
        const open = await Promise.all(
          replicas.map(async ({ program }) =>
            fetch(`${program.gateUrl}/gate/${namespace}/${name}/two`).then(
              (answer) => answer.status === 200,
              () => false,
            ),
          ),
        );
        const object = await admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace } });
        expect(object === undefined && open.includes(true), "the gate is open for what was not applied").toBe(false);
        return object;
      },
      { timeoutMs: 90_000 },
    );
    expect(created.metadata.name).toBe(name);
    return performance.now() - since;
  };
  const figure = (what: string, ms: number): void =>
    void process.stderr.write(`failover: ${what} ${(ms / 1_000).toFixed(2)} s\n`);

  beforeAll(async () => {
    namespace = await uniqueNamespace(cluster);
    server = await startArtifactServer();
    // Each replica is asked directly, as a Service that led to both could not be.
    install = await installWebhook(cluster, { judged: [`${namespace}-elsewhere`] });
    await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
    replicas.push(...(await Promise.all([start(), start(), start()])));
    prometheus = await startPrometheus({
      targets: replicas.map(({ program }) => new URL(program.metricsUrl).host),
      job: "stageset-system/stageset-controller",
      labels: "series",
      rules: [fileURLToPath(new URL("../../config/monitoring/alerts.yaml", import.meta.url))],
    });
  });
  afterAll(async () => {
    await prometheus[Symbol.asyncDispose]();
    await install.unregister();
    await Promise.all(replicas.map(({ program }) => program[Symbol.asyncDispose]()));
    await server.stop();
  });

  test("[60.5] one holds the lease; both answer admission, gate, metrics and health alike; the leader alone speaks of StageSets", async () => {
    await publish("steady-one", { "a.yaml": configMap("steady-one") });
    await publish("steady-two", { "a.yaml": configMap("steady-two") });
    await stagesOf("steady");
    await untilReady(cluster, { namespace, name: "steady" });
    const first = await leader();
    const [standby] = others(first);
    if (standby === undefined) throw new Error("there is one replica");
    expect(await leads(standby)).toBe(false);
    const lease = await admin.get({
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name: "stageset-controller.stages.metio.wtf", namespace: install.namespace },
    });
    expect(at(lease, "spec")).toMatchObject({ leaseDurationSeconds: 15 });
    expect(asText(at(lease, "spec", "holderIdentity"))).toMatch(/^.+_[0-9a-f-]{36}$/);
    for (const { program, webhookPort } of replicas) {
      await eventually(async () => (await fetch(`${program.healthUrl}/readyz`)).status === 200);
      expect((await fetch(`${program.healthUrl}/healthz`)).status).toBe(200);
      await eventually(async () => (await fetch(`${program.gateUrl}/gate/${namespace}/steady/two`)).status === 200);
      expect((await fetch(`${program.gateUrl}/gate/${namespace}/steady/three`)).status).not.toBe(200);
      expect(await refusal(webhookPort, namespace)).toContain("spec.stages[1].name");
    }
    const gauge = (page: string): unknown =>
      parseMetrics(page)
        .filter(({ name }) => name === "stageset_stage_ready")
        .map(({ labels, value }) => `${labels["stageset"] ?? ""}/${labels["stage"] ?? ""} ${value}`)
        .toSorted();
    expect(gauge(await metricsOf(standby))).toEqual(["steady/one 1", "steady/two 1"]);
    expect(gauge(await metricsOf(first))).toEqual(gauge(await metricsOf(standby)));
    const ofStageSets = (page: string): readonly string[] => [
      ...new Set(
        parseMetrics(page)
          .filter(({ labels }) => labels["namespace"] === namespace)
          .map(({ name }) => name),
      ),
    ];
    expect(ofStageSets(await metricsOf(first))).toContain("stageset_ready");
    expect(ofStageSets(await metricsOf(standby))).toEqual(["stageset_stage_ready"]);
  });

  test("[60.19] Prometheus evaluates every rule, and each query of the dashboard has data", async () => {
    // Something that fails, too.
    await publish("broken-one", { "a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: Not-A-Name }\n" });
    await publish("broken-two", { "a.yaml": configMap("broken-two") });
    await stagesOf("broken");
    // A budget that is spent, of the whole release and of a stage, and promotions that are held and blocked.
    const source = { prometheus: { address: prometheus.url, query: "vector(2)" } };
    const errorBudget = { source, freezeThreshold: "3" };
    const checks = [{ name: "errors", source, threshold: { max: "1" } }];
    await guarded("frozen", { spec: { errorBudget } });
    await guarded("frozen-stage", { stage: { errorBudget } });
    await guarded("held", { stage: { promotion: { soak: "1h" } } });
    await guarded("blocked", { stage: { promotion: { analysis: { interval: "10s", checks } } } });
    const target = { apiVersion: "v1", kind: "ConfigMap", name: "acting" };
    await guarded("acting", {
      stage: { actions: { post: [{ name: "seen", wait: { target, expr: "metadata.name != ''" } }] } },
    });
    // A rule that has not been evaluated yet is of unknown health.
    await eventually(
      async () => {
        const { body } = await fromPrometheus("/api/v1/rules");
        const rules = asArray(at(body, "data", "groups")).flatMap((group) => asArray(at(group, "rules")));
        expect(rules.length).toBeGreaterThan(20);
        const unhealthy = rules.filter((rule) => at(rule, "health") !== "ok");
        expect(unhealthy.map((rule) => [at(rule, "name"), at(rule, "health"), at(rule, "lastError")])).toEqual([]);
        return true;
      },
      { timeoutMs: 90_000, intervalMs: 1_000 },
    );
    // A rate needs several scrapes.
    await eventually(
      async () => {
        for (const { program, webhookPort } of replicas) {
          await fetch(`${program.gateUrl}/gate/${namespace}/steady/two`);
          await refusal(webhookPort, namespace);
        }
        const empty: string[] = [];
        for (const panel of rows.flatMap(({ panels }) => panels))
          for (const { expr } of panel.queries) {
            const shown = Object.entries(variables).reduce((text, [name, value]) => text.replaceAll(name, value), expr);
            if ((await ask(shown)).length === 0) empty.push(`${panel.title}: ${shown}`);
          }
        expect(empty).toEqual([]);
        return true;
      },
      { timeoutMs: 90_000, intervalMs: 2_000 },
    );
  });

  const fromPrometheus = async (path: string): Promise<{ readonly status: number; readonly body: unknown }> => {
    const response = await fetch(`${prometheus.url}${path}`);
    return { status: response.status, body: await response.json() };
  };
  /** What an instant query answers; a query that Prometheus refuses fails the test. */
  const ask = async (
    query: string,
  ): Promise<readonly { readonly metric: Readonly<Record<string, unknown>>; readonly value: string }[]> => {
    const { status, body } = await fromPrometheus(`/api/v1/query?query=${encodeURIComponent(query)}`);
    expect(status, `${query}: ${JSON.stringify(body)}`).toBe(200);
    return asArray(at(body, "data", "result")).map((result) => ({
      metric: asObject(at(result, "metric")) ?? {},
      value: asText(asArray(at(result, "value"))[1]) ?? "",
    }));
  };

  test("[60.18] [60.6] SIGKILL to the leader while a stage verifies: a peer goes on, no gate opens too early, Prometheus sees no gap", async () => {
    const query = `max by (namespace, stageset, stage) (stageset_stage_ready{namespace="${namespace}",stageset="steady"})`;
    await eventually(async () => (await ask(query)).length === 2, { timeoutMs: 30_000 });
    const first = await leader();
    // Its first stage verifies for 3 s: nothing may come between this and the kill.
    using history = follow(cluster, { apiVersion, kind: "StageSet", namespace, name: "killed" });
    await beginRelease("killed");
    const answers: (readonly unknown[])[] = [];
    const over = new AbortController();
    const asking = (async () => {
      while (!over.signal.aborted) {
        answers.push(
          (await ask(query)).map(({ metric, value }) => `${asText(metric["stage"]) ?? ""} ${value}`).toSorted(),
        );
        await delay(100);
      }
    })();
    const began = performance.now();
    first.program.kill();
    replicas.splice(replicas.indexOf(first), 1);
    const next = await untilSecondStage("killed", began);
    await untilReady(cluster, { namespace, name: "killed" });
    figure("kill -9, the next stage is written after", next);
    await eventually(() => answers.length > 5, { timeoutMs: 30_000 });
    over.abort();
    await asking;
    expect(answers.filter((answer) => answer.join() !== "one 1,two 1")).toEqual([]);
    expect(next).toBeLessThan(20_000 * 5);
    expect((await stageSetEvents(cluster, { namespace, name: "killed" })).map(({ reason }) => reason)).toEqual([
      "Succeeded",
    ]);
    expect(states(history)).toEqual(["Unknown Progressing", "True Succeeded"]);
    // The new leader sets its gauges from the statuses it found.
    expect(sampleOf(await metricsOf(await leader()), "stageset_ready", { namespace, name: "steady" })).toBe(1);
    await first.program.stop();
  });

  // There are no actions yet that could run twice; SIGKILL is the case before.
  test("[60.6] SIGTERM to the leader while a stage verifies: no failure is told, exit 0, the peer leads in 3 s and goes on", async () => {
    const first = await leader();
    const [standby] = others(first);
    if (standby === undefined) throw new Error("there is one replica");
    using history = follow(cluster, { apiVersion, kind: "StageSet", namespace, name: "stopped" });
    await beginRelease("stopped");
    const began = performance.now();
    const ended = first.program.stop().then((code) => ({ code, ms: performance.now() - began }));
    await eventually(async () => (await fetch(`${first.program.healthUrl}/readyz`)).status === 500, { intervalMs: 20 });
    await eventually(() => leads(standby), { timeoutMs: 30_000, intervalMs: 50 });
    const handedOver = performance.now() - began;
    const next = await untilSecondStage("stopped", began);
    await untilReady(cluster, { namespace, name: "stopped" });
    const { code, ms } = await ended;
    figure("clean stop, the peer leads after", handedOver);
    figure("clean stop, the next stage is written after", next);
    figure("clean stop, exit after", ms);
    expect(code).toBe(0);
    expect(ms).toBeLessThan(30_000);
    expect(handedOver).toBeLessThan(3_000 * 5);
    expect((await stageSetEvents(cluster, { namespace, name: "stopped" })).map(({ reason }) => reason)).toEqual([
      "Succeeded",
    ]);
    replicas.splice(replicas.indexOf(first), 1);
    expect(states(history)).toEqual(["Unknown Progressing", "True Succeeded"]);
  });
});

/** What Ready was, one after the other. */
function states(history: History): readonly string[] {
  const seen = history.states.map(readyOf).filter((ready) => ready !== "");
  return seen.filter((ready, index) => ready !== seen[index - 1]);
}

/** The dashboard's variables, as Grafana would put them in. */
const variables = {
  $selector: 'job="stageset-system/stageset-controller"',
  $namespace: ".*",
  $stageset: ".*",
  $window: "1h",
  $availabilityTarget: "0.99",
  $latencyTarget: "30",
  $__rate_interval: "30s",
};

/** Asks one replica to admit a StageSet with two stages of one name, and gives its message. */
async function refusal(port: number, namespace: string): Promise<string> {
  const sourceRef = { name: "app" };
  const object = {
    ...stageSetRef(namespace, "twice"),
    spec: {
      stages: [
        { name: "a", sourceRef },
        { name: "a", sourceRef },
      ],
    },
  };
  const review = {
    apiVersion: "admission.k8s.io/v1",
    kind: "AdmissionReview",
    request: {
      uid: "1",
      kind: { group: "stages.metio.wtf", version: "v1", kind: "StageSet" },
      resource: { group: "stages.metio.wtf", version: "v1", resource: "stagesets" },
      name: "twice",
      namespace,
      operation: "CREATE",
      userInfo: { username: "somebody" },
      object,
    },
  };
  const answer = await new Promise<string>((resolve, reject) => {
    const outgoing = request(
      {
        host: "127.0.0.1",
        port,
        path: "/validate-stages-metio-wtf-v1-stageset",
        method: "POST",
        headers: { "content-type": "application/json" },
        rejectUnauthorized: false, // Whom it is for, the API server checks; here only what it says matters.
      },
      (incoming) => {
        let text = "";
        incoming.on("data", (chunk: Buffer) => (text += chunk.toString()));
        incoming.on("end", () => resolve(text));
      },
    );
    outgoing.on("error", reject);
    outgoing.end(JSON.stringify(review));
  });
  const response = at(JSON.parse(answer), "response");
  return at(response, "allowed") === false
    ? JSON.stringify([at(response, "status"), asArray(at(response, "warnings"))])
    : answer;
}
