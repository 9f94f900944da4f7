import { expect } from "vitest";
import { asArray, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { publishArtifact, startArtifactServer, type PublishOptions } from "./artifacts.ts";
import { allRules, createServiceAccount, eventually, uniqueNamespace, type TestCluster } from "./cluster.ts";
import { bindInstallation, controllerToken } from "./controller-account.ts";
import { untilReady } from "./controller.ts";
import { startControllerProcess, type ControllerProcess } from "./controller-process.ts";
import { guideBlocks } from "./guide.ts";
import type { Manifest } from "./test-client.ts";
import { startService, type TestService } from "./service.ts";

/**
 * A release as the guide has it: StageSet `shop` with the stage `config`, whose readiness the test decides, controllers
 * of which one leads, and the gate's Service in front of them.
 */
export interface DeliveryScene extends AsyncDisposable {
  readonly namespace: string;
  readonly service: TestService;
  /** Controllers that run now. */
  readonly replicas: readonly ControllerProcess[];
  /** The guide's blocks, made for this scene. */
  readonly blocks: ReadonlyMap<string, readonly Manifest[]>;
  publish(name: string, files: PublishOptions["files"]): Promise<unknown>;
  /** A new revision of what the stage needs; unless it is `ready`, the stage waits for {@link DeliveryScene.heal}. */
  publishConfig(version: string, options?: { readonly ready?: boolean }): Promise<void>;
  /** Lets the workload of a revision become ready. */
  heal(version: string): Promise<void>;
  /** Waits until pods of a revision exist. */
  untilRolling(version: string): Promise<void>;
  /** Status and text of the gate's answer for the stage, through the Service. */
  gate(): Promise<string>;
  /** Kills the controller that leads, waits until another one does, starts one anew; gives the pod names of both leaders. */
  replaceLeader(): Promise<readonly [string, string]>;
}

export interface DeliverySceneOptions {
  readonly replicas?: number;
  /** Further replacements in the guide's blocks, text by text. */
  readonly replace?: (scene: {
    readonly namespace: string;
    readonly gateUrl: string;
  }) => Readonly<Record<string, string>>;
}

const registry = { apiVersion: "apps/v1", kind: "Deployment" } as const;

export async function startDeliveryScene(
  cluster: TestCluster,
  { replicas: count = 2, replace = () => ({}) }: DeliverySceneOptions = {},
): Promise<DeliveryScene> {
  const { admin } = cluster;
  const namespace = await uniqueNamespace(cluster, "shop");
  const server = await startArtifactServer();
  const service = await startService();
  await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
  await bindInstallation(cluster, { namespace });
  const token = await controllerToken(cluster);
  const start = (): Promise<ControllerProcess> =>
    startControllerProcess({
      ...cluster,
      token,
      namespaces: [namespace],
      args: ["--leader-elect", `--leader-election-namespace=${namespace}`],
    });
  let replicas: readonly ControllerProcess[] = await Promise.all(Array.from({ length: count }, start));
  const routeAll = (): void => service.route(replicas.map((replica) => replica.gateUrl));
  routeAll();
  const gateUrl = `${service.url}/gate/${namespace}/`;
  const blocks = await guideBlocks("progressive-delivery.md", {
    "namespace: shop": `namespace: ${namespace}`,
    'namespace="shop"': `namespace="${namespace}"`,
    "http://stageset-controller-gate.stageset-system:8082/gate/shop/": gateUrl,
    ...replace({ namespace, gateUrl }),
  });
  const holder = async (): Promise<string> => {
    const [lease] = await admin.list({ apiVersion: "coordination.k8s.io/v1", kind: "Lease", namespace });
    return asText(at(lease, "spec", "holderIdentity")) ?? "";
  };
  const publish: DeliveryScene["publish"] = (name, files) =>
    publishArtifact(cluster, { server, namespace, name, files });
  const pods = { apiVersion: "v1", kind: "Pod", namespace };
  const scene: DeliveryScene = {
    namespace,
    service,
    get replicas() {
      return replicas;
    },
    blocks,
    publish,
    async publishConfig(version, { ready = false } = {}) {
      const annotations = ready ? {} : { "bench.local/never-ready": "true" };
      const files = { "registry.yaml": JSON.stringify(registryManifest(version, annotations)) };
      await publish("shop-config", files);
    },
    async untilRolling(version) {
      const labelSelector = `version=${version}`;
      await eventually(async () => (await admin.list(pods, { labelSelector })).length > 0, { timeoutMs: 60_000 });
    },
    async heal(version) {
      await scene.untilRolling(version);
      const [pod] = await admin.list(pods, { labelSelector: `version=${version}` });
      const name = pod?.metadata.name ?? "";
      await eventually(
        async () => at(await admin.get({ ...pods, metadata: { name, namespace } }), "status", "phase") === "Running",
      );
      await admin.patchStatus(
        { ...pods, metadata: { name, namespace } },
        {
          conditions: ["Ready", "ContainersReady"].map((type) => ({ type, status: "True", lastTransitionTime: now() })),
        },
      );
    },
    async gate() {
      const response = await fetch(`${gateUrl}shop/config`);
      return `${response.status} ${(await response.text()).trim()}`;
    },
    async replaceLeader() {
      const before = await holder();
      const leads = await Promise.all(replicas.map((replica) => isLeader(replica)));
      const leader = replicas[leads.indexOf(true)];
      if (leader === undefined) throw new Error("nobody leads");
      leader.kill();
      replicas = replicas.filter((replica) => replica !== leader);
      routeAll();
      await leader.stop();
      await eventually(async () => ![before, ""].includes(await holder()), { timeoutMs: 60_000 });
      replicas = [...replicas, await start()];
      routeAll();
      return [before, await holder()];
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(replicas.map((replica) => replica.stop()));
      await service[Symbol.asyncDispose]();
      await server.stop();
    },
  };
  return scene;
}

/** Applies the guide's StageSet at a first revision and waits until it is Ready. */
export async function releaseShop(cluster: TestCluster, scene: DeliveryScene): Promise<void> {
  await scene.publishConfig("v1", { ready: true });
  for (const object of scene.blocks.get("stage-set") ?? []) await cluster.admin.apply(object);
  await untilReady(cluster, { namespace: scene.namespace, name: "shop" });
  await eventually(async () => expect(await scene.gate()).toMatch(/^200 /));
}

async function isLeader(replica: ControllerProcess): Promise<boolean> {
  const text = await (await fetch(`${replica.metricsUrl}/metrics`)).text();
  return /^leader_election_master_status(?:\{[^}]*\})? 1$/m.test(text);
}

function registryManifest(version: string, annotations: Readonly<Record<string, string>>) {
  const labels = { app: "registry", version };
  return {
    ...registry,
    metadata: { name: "registry" },
    spec: {
      replicas: 1,
      selector: { matchLabels: { app: "registry" } },
      template: {
        metadata: { labels, annotations },
        spec: { containers: [{ name: "c", image: `registry:${version}` }] },
      },
    },
  };
}

function now(): string {
  return new Date().toISOString().replace(/\.\d+Z$/, "Z");
}

/** Messages of the Events about an object. */
export async function eventsAbout(
  { admin }: TestCluster,
  { namespace, name }: { readonly namespace: string; readonly name: string },
): Promise<readonly string[]> {
  const events = await admin.list({ apiVersion: "v1", kind: "Event", namespace });
  return events
    .filter((event) => at(event, "involvedObject", "name") === name)
    .map((event) => asText(at(event, "message")) ?? "");
}

/** Image of the first container of a workload's pods. */
export function imageOf(workload: KubeObject | undefined): string {
  return asText(at(asArray(at(workload, "spec", "template", "spec", "containers"))[0], "image")) ?? "";
}
