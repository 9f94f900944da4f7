import { spawn } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { installCrds } from "../../src/dev/crds.ts";
import { startPrometheus, startRolloutsController, type DeliveryProgram } from "../../src/dev/delivery-programs.ts";
import { podAnnotations } from "../../src/dev/kwok-config.ts";
import { asArray, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, readyOf, stageSetRef, untilReady } from "../support/controller.ts";
import { releaseShop, startDeliveryScene, type DeliveryScene } from "../support/delivery-scene.ts";
import { startService, type TestService } from "../support/service.ts";
import type { Manifest } from "../support/test-client.ts";

const cluster = testCluster();
const { admin } = cluster;
const rolloutKind = { apiVersion: "argoproj.io/v1alpha1", kind: "Rollout" } as const;

/** Rollouts by the template their analysis uses; `cart` is the guide's own. */
const rollouts = [
  { name: "cart", template: "config-ready-web" },
  { name: "cart-prometheus", template: "config-ready-prometheus" },
  { name: "cart-scalar", template: "config-ready-scalar" },
  { name: "cart-job", template: "config-ready-job" },
] as const;
const templates = ["argo-web", "argo-prometheus", "argo-prometheus-scalar", "argo-job"];

describe("Argo Rollouts and a stage", () => {
  let scene: DeliveryScene;
  let argo: DeliveryProgram;
  let prometheus: DeliveryProgram;
  let prometheusService: TestService;
  let jobs: Disposable;
  const ended = new AbortController();
  beforeAll(async () => {
    await installCrds({ ...cluster, token: cluster.adminToken }, ["rollouts"]);
    prometheusService = await startService(); // The guide's address of it has to be known before its targets are.
    scene = await startDeliveryScene(cluster, {
      replicas: 3,
      replace: () => ({
        "http://prometheus.monitoring:9090": prometheusService.url,
        "interval: 5s": "interval: 1s",
        '"--retry-delay", "5"': '"--retry-delay", "1"',
      }),
    });
    const { namespace } = scene;
    const targets = scene.replicas.map((replica) => replica.metricsUrl.replace("http://", ""));
    [argo, prometheus] = await Promise.all([
      startRolloutsController({ ...cluster, namespace }),
      startPrometheus({ targets }),
    ]);
    prometheusService.route([prometheus.url]);
    jobs = runJobPods(namespace);
    await releaseShop(cluster, scene);
    for (const block of templates)
      for (const object of scene.blocks.get(block) ?? []) await admin.apply(withOwnEnd(object));
  });
  afterAll(async () => {
    ended.abort();
    jobs[Symbol.dispose]();
    await argo[Symbol.asyncDispose]();
    await prometheus[Symbol.asyncDispose]();
    await prometheusService[Symbol.asyncDispose]();
    await scene[Symbol.asyncDispose]();
  });

  const ref = (name: string) => ({ ...rolloutKind, metadata: { name, namespace: scene.namespace } });
  const rollout = (name: string, template: string, version: string): Manifest => {
    const text = JSON.stringify(scene.blocks.get("argo-rollout")?.[0])
      .replaceAll('"cart"', `"${name}"`)
      .replace("config-ready-web", template)
      .replace(":1.0.0", `:${version}`);
    return JSON.parse(text) as Manifest; // Of the guide's manifest.
  };
  const phaseOf = async (name: string): Promise<string> =>
    asText(at(await admin.get(ref(name)), "status", "phase")) ?? "";
  const analysisOf = async (name: string): Promise<KubeObject | undefined> => {
    const runs = await admin.list({ ...rolloutKind, kind: "AnalysisRun", namespace: scene.namespace });
    return runs.find((run) => asArray(run.metadata["ownerReferences"]).some((owner) => at(owner, "name") === name));
  };
  /** Measured by the run's only metric so far. */
  const measured = async (name: string) => {
    const run = await analysisOf(name);
    const [metric] = asArray(at(run, "status", "metricResults"));
    return {
      phase: at(run, "status", "phase"),
      count: at(metric, "count"),
      failed: at(metric, "failed"),
      message: `${asText(at(run, "status", "message")) ?? ""} ${asText(at(asArray(at(metric, "measurements")).at(-1), "message")) ?? ""}`,
    };
  };
  const query = async (promql: string, atSeconds?: number): Promise<readonly unknown[]> => {
    const range = atSeconds === undefined ? "" : `&time=${atSeconds}`;
    const response = await fetch(`${prometheus.url}/api/v1/query?query=${encodeURIComponent(promql)}${range}`);
    return asArray(at(await response.json(), "data", "result"));
  };
  /** Exit code of what the guide's Job runs, without what repeats it. */
  const plainCurl = (): Promise<number | null> =>
    new Promise((resolve) => {
      const url = `${scene.service.url}/gate/${scene.namespace}/shop/config`;
      spawn("curl", ["-fsS", url], { stdio: "ignore" }).once("exit", resolve);
    });
  const everyTime = { timeoutMs: 60_000, intervalMs: 500 };

  test("[40.42] while the stage is not Ready every analysis keeps measuring, and no Rollout is aborted or goes on", async () => {
    for (const { name, template } of rollouts) await admin.apply(rollout(name, template, "1.0.0"));
    await eventually(async () => {
      for (const { name } of rollouts) expect([name, await phaseOf(name)]).toEqual([name, "Healthy"]);
      return true;
    }, everyTime);
    await scene.publishConfig("v2");
    await eventually(async () => expect(await scene.gate()).toMatch(/^403 .*NotReady$/));
    await eventually(async () =>
      expect(await query(`stageset_stage_ready{namespace="${scene.namespace}"} == 0`)).toHaveLength(3),
    );
    for (const { name, template } of rollouts) await admin.apply(rollout(name, template, "2.0.0"));
    // More measurements than the defaults of any limit would have survived.
    await eventually(async () => {
      for (const { name, template } of rollouts) {
        const now = await measured(name);
        expect({ name, phase: now.phase }, now.message).toEqual({ name, phase: "Running" });
        if (template !== "config-ready-job") expect(now.failed).toBeGreaterThanOrEqual(6);
      }
      return true;
    }, everyTime);
    for (const { name } of rollouts) expect([name, await phaseOf(name)]).toEqual([name, "Progressing"]);
    expect(await plainCurl()).toBe(22); // Its exit code for an HTTP error: a Job without `--retry` fails at once.
  });

  test("[40.42] without any gate the web analysis notes errors and goes on measuring", async () => {
    scene.service.route([]);
    await eventually(() => Promise.resolve(scene.service.refused > 2), { timeoutMs: 60_000 });
    expect((await measured("cart")).phase).toBe("Running");
    expect((await measured("cart-job")).phase).toBe("Running");
    scene.service.route(scene.replicas.map((replica) => replica.gateUrl));
  });

  test("[40.43] three replicas export one series each, and their maximum has no gap while the leader is killed", async () => {
    const stage = `namespace="${scene.namespace}",stageset="shop",stage="config"`;
    const began = Date.now() / 1_000;
    await scene.replaceLeader();
    const ended = Date.now() / 1_000;
    const promql = `max by (namespace, stageset, stage) (stageset_stage_ready{${stage}})`;
    for (let second = began; second <= ended; second++) expect(await query(promql, second)).toHaveLength(1);
    expect(await query(`stageset_stage_ready{${stage}}`, began)).toHaveLength(3);
  });

  test("[40.42] once the stage is Ready every analysis succeeds as printed and every Rollout becomes Healthy", async () => {
    await scene.heal("v2");
    await eventually(async () => expect(await scene.gate()).toMatch(/^200 /));
    expect(await plainCurl()).toBe(0);
    await eventually(async () => {
      for (const { name } of rollouts) {
        const { phase, message } = await measured(name);
        expect({ name, phase, message }).toMatchObject({ name, phase: "Successful" });
        expect([name, await phaseOf(name)]).toEqual([name, "Healthy"]);
      }
      return true;
    }, everyTime);
  });

  const afterVersion = async (namespace: string): Promise<unknown> =>
    at(await admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "after", namespace } }), "data", "v");
  const publishCart = async (version: string): Promise<void> => {
    const object = rollout("cart", "config-ready-web", version);
    await scene.publish("shop-cart", { "rollout.yaml": JSON.stringify(object) });
    await scene.publish("shop-after", { "after.yaml": configMap("after", { v: version }) });
  };

  test("[20.35] a stage waits for the Rollout it applies; the next one starts within a second of Healthy, and Degraded fails it at once with the Rollout's message", async () => {
    const { namespace } = scene;
    await admin.delete(ref("cart")); // From here on a StageSet's.
    await eventually(async () => (await admin.get(ref("cart"))) === undefined);
    await publishCart("2.0.0");
    for (const object of scene.blocks.get("wait-for-rollout") ?? []) await admin.apply(object);
    await untilReady(cluster, { namespace, name: "after-cart" }, "True Succeeded", { timeoutMs: 60_000 });

    await scene.publishConfig("v3");
    await eventually(async () => expect(await scene.gate()).toMatch(/^403 .*NotReady$/));
    const healthyAt = firstTime({ ...rolloutKind, namespace }, (object) => {
      const isNew = JSON.stringify(object).includes("cart:3.0.0") && object.metadata.name === "cart";
      return (
        isNew &&
        at(object, "status", "phase") === "Healthy" &&
        at(object, "status", "observedGeneration") === String(object.metadata.generation)
      );
    });
    const startedAt = firstTime({ apiVersion: "v1", kind: "ConfigMap", namespace }, (object) => {
      return object.metadata.name === "after" && at(object, "data", "v") === "3.0.0";
    });
    await publishCart("3.0.0");
    await eventually(async () => expect((await measured("cart")).phase).toBe("Running"), everyTime);
    await eventually(async () =>
      expect(readyOf(await admin.get(stageSetRef(namespace, "after-cart")))).toMatch(/^Unknown/),
    );
    expect(await afterVersion(namespace)).toBe("2.0.0");
    await scene.heal("v3");
    const lateMs = (await startedAt) - (await healthyAt);
    process.stderr.write(`the next stage started ${Math.round(lateMs)} ms after the Rollout was Healthy\n`);
    expect(lateMs).toBeGreaterThan(-50); // Two watches may swap neighbours.
    expect(lateMs).toBeLessThan(5_000);

    await scene.publishConfig("v4");
    await eventually(async () => expect(await scene.gate()).toMatch(/^403 .*NotReady$/));
    await publishCart("4.0.0");
    await eventually(
      async () => expect(at(await admin.get(ref("cart")), "status", "phase")).toBe("Progressing"),
      everyTime,
    );
    await admin.patchStatus(ref("cart"), { abort: true }); // What `kubectl argo rollouts abort` does.
    await eventually(
      async () => {
        const stageSet = await admin.get(stageSetRef(namespace, "after-cart"));
        expect(readyOf(stageSet)).toBe("False StageFailed");
        expect(messageOf(stageSet)).toContain("Rollout");
        expect(messageOf(stageSet)).toContain("RolloutAborted: Rollout aborted update");
        return true;
      },
      { timeoutMs: 20_000 },
    );
    expect(await afterVersion(namespace)).toBe("3.0.0");
  });

  test("[20.35] a stage waits for a Rollout that lives there already", async () => {
    const { namespace } = scene;
    const text = JSON.stringify(scene.blocks.get("wait-for-rollout")?.[0]);
    const there = text.replaceAll("shop-cart", "shop-there").replaceAll("shop-after", "shop-there-after");
    const manifest = JSON.parse(
      there.replaceAll('"after-cart"', '"after-there"').replace(/"name":"cart"}\]/, '"name":"cart-there"}]'),
    ) as Manifest;
    await scene.publish("shop-there", { "a.yaml": configMap("there") });
    await scene.publish("shop-there-after", { "a.yaml": configMap("there-after") });
    await admin.apply(manifest);
    const started = async (): Promise<boolean> =>
      (await admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "there-after", namespace } })) !==
      undefined;
    await eventually(
      async () =>
        (await admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "there", namespace } })) !==
        undefined,
    );
    expect(await started()).toBe(false);
    await admin.apply(rollout("cart-there", "config-ready-web", "1.0.0"));
    await eventually(started, { timeoutMs: 30_000 });
    expect(await phaseOf("cart-there")).toBe("Healthy");
  });

  /** When a watch first shows an object that fits, in ms; the watch goes on until the tests end. */
  function firstTime(
    ref: { readonly apiVersion: string; readonly kind: string; readonly namespace: string },
    fits: (object: KubeObject) => boolean,
  ): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const watching = async (): Promise<void> => {
      for await (const { object } of admin.watch(ref, { signal: ended.signal }))
        if (fits(object)) resolve(performance.now());
    };
    watching().catch(reject);
    return promise;
  }
});

/** The template with Jobs whose simulated pods do not end by themselves: their command decides. */
function withOwnEnd(template: Manifest): Manifest {
  const annotations = { [podAnnotations.neverReady]: "true" };
  const text = JSON.stringify(template).replace(
    '"template":{"spec":',
    `"template":{"metadata":{"annotations":${JSON.stringify(annotations)}},"spec":`,
  );
  return JSON.parse(text) as Manifest; // What it was, with annotations.
}

/**
 * What a node would do for the pods of analysis Jobs: runs each container's own command on this machine and gives its
 * exit code to the simulated pod.
 */
function runJobPods(namespace: string): Disposable {
  const stop = new AbortController();
  const seen = new Set<string>();
  const running = new Set<ReturnType<typeof spawn>>();
  const run = async (pod: KubeObject): Promise<void> => {
    const [command = "", ...args] = asArray(at(asArray(at(pod, "spec", "containers"))[0], "command")).map(String);
    const child = spawn(command, args, { stdio: "ignore" });
    running.add(child);
    const code = await new Promise<number>((resolve) => {
      child.once("error", () => resolve(127));
      child.once("exit", (exit) => resolve(exit ?? 1));
    });
    running.delete(child);
    if (stop.signal.aborted) return;
    const ref = { apiVersion: "v1", kind: "Pod", metadata: { name: pod.metadata.name, namespace } };
    const outcome = code === 0 ? {} : { [podAnnotations.fail]: "true" };
    await admin.patch(ref, { metadata: { annotations: { [podAnnotations.completeAfter]: "0s", ...outcome } } });
    await eventually(async () => at(await admin.get(ref), "status", "phase") === "Running");
    // A simulated pod ends once it is ready.
    const ready = ["Ready", "ContainersReady"].map((type) => ({ type, status: "True" }));
    await admin.patchStatus(ref, { conditions: ready });
  };
  const watch = async (): Promise<void> => {
    for await (const { object } of admin.watch({ apiVersion: "v1", kind: "Pod", namespace }, { signal: stop.signal })) {
      const isJob = asArray(object.metadata["ownerReferences"]).some((owner) => at(owner, "kind") === "Job");
      if (!isJob || seen.has(object.metadata.name)) continue;
      seen.add(object.metadata.name);
      run(object).catch(() => undefined); // The pod is gone.
    }
  };
  watch().catch(() => undefined); // The test misses the outcome.
  return {
    [Symbol.dispose]() {
      stop.abort();
      for (const child of running) child.kill();
    },
  };
}
