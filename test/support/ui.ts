import { asArray, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { find, renderChart } from "./chart.ts";
import { createServiceAccount, uniqueNamespace, type PolicyRule, type TestCluster } from "./cluster.ts";
import { createStageSet, startTestController, stageSetRef, type TestController } from "./controller.ts";
import { eventually } from "./eventually.ts";

/** A replica that serves the web UI and does not lead: what a test writes as status stays. */
export interface UiReplica extends AsyncDisposable {
  /** `http://127.0.0.1:<port>`. */
  readonly url: string;
  readonly controller: TestController;
  /** Whom the audit log names. */
  readonly username: string;
}

/** Rules of what the chart renders with the UI on, for a ServiceAccount of their own. */
export async function uiRules(): Promise<readonly PolicyRule[]> {
  const rendered = await renderChart({ values: { ui: { enabled: true } } });
  return rendered
    .filter(({ kind, metadata }) => kind === "ClusterRole" && /^demo|^stageset-controller/.test(metadata.name))
    .filter(({ metadata }) => find(rendered, "ClusterRoleBinding", metadata.name) !== undefined)
    .flatMap((role) => asArray(role["rules"]) as readonly PolicyRule[]); // What the chart renders are rules.
}

export async function startUiReplica(
  cluster: TestCluster,
  options: { readonly namespaces: readonly string[]; readonly auth?: "none" | "kubernetes" },
): Promise<UiReplica> {
  const { admin } = cluster;
  const home = await uniqueNamespace(cluster);
  const account = await createServiceAccount(cluster, {
    namespace: home,
    name: "controller",
    clusterRules: await uiRules(),
    rules: [{ apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["get"] }],
  });
  // Another replica leads, and is alive.
  const lease = {
    apiVersion: "coordination.k8s.io/v1",
    kind: "Lease",
    metadata: { name: "stageset-controller.stages.metio.wtf", namespace: home },
  };
  await admin.create({
    ...lease,
    spec: {
      holderIdentity: "another",
      leaseDurationSeconds: 3600,
      renewTime: new Date().toISOString().replace("Z", "000Z"),
    },
  });
  const renewing = setInterval(() => {
    const renewTime = new Date().toISOString().replace("Z", "000Z");
    admin.patch(lease, { spec: { renewTime } }).catch(() => undefined);
  }, 5_000);
  const controller = await startTestController(cluster, {
    namespaces: options.namespaces,
    token: account.token,
    config: {
      leaderElect: true,
      leaderElectionNamespace: home,
      ui: { host: "127.0.0.1", port: 0, auth: options.auth ?? "kubernetes" },
    },
  });
  const port = await eventually(() => controller.running.ports().ui, { timeoutMs: 30_000 });
  return {
    url: `http://127.0.0.1:${port}`,
    controller,
    username: account.username,
    async [Symbol.asyncDispose]() {
      clearInterval(renewing);
      await controller[Symbol.asyncDispose]();
    },
  };
}

/** A token of somebody who may read StageSets of one namespace. */
export async function readerToken(
  cluster: TestCluster,
  { namespace, name, verbs = ["get", "list"] }: { namespace: string; name: string; verbs?: readonly string[] },
): Promise<string> {
  const rules = [{ apiGroups: ["stages.metio.wtf"], resources: ["stagesets"], verbs }];
  return (await createServiceAccount(cluster, { namespace, name, rules: verbs.length === 0 ? [] : rules })).token;
}

/** A StageSet with the status a test gives it. */
export async function stageSetWithStatus(
  cluster: TestCluster,
  of: {
    readonly namespace: string;
    readonly name: string;
    readonly spec?: Readonly<Record<string, unknown>>;
    readonly status: Readonly<Record<string, unknown>>;
    readonly stages?: readonly unknown[];
  },
): Promise<KubeObject> {
  const { namespace, name, status } = of;
  const stages = of.stages ?? [{ name: "app", sourceRef: { name: "app" } }];
  const made = await createStageSet(cluster, { namespace, name, spec: { stages, ...of.spec } });
  return writeStatus(cluster, made, status);
}

export async function writeStatus(
  { admin }: TestCluster,
  { metadata }: KubeObject,
  status: Readonly<Record<string, unknown>>,
): Promise<KubeObject> {
  const path = `/apis/stages.metio.wtf/v1/namespaces/${metadata.namespace ?? ""}/stagesets/${metadata.name}/status`;
  const live = await admin.get(stageSetRef(metadata.namespace ?? "", metadata.name));
  const reply = await admin.request("PUT", path, {
    body: { ...live, status: { observedGeneration: live?.metadata.generation, ...status } },
  });
  if (reply.status !== 200) throw new Error(`cannot write a status: ${JSON.stringify(reply.body)}`);
  return reply.body as KubeObject; // An API server answers with the object.
}

/** The Ready condition of a status. */
export function ready(status: string, reason: string, message: string, since: Date = new Date()): object {
  const lastTransitionTime = `${since.toISOString().slice(0, 19)}Z`;
  return { type: "Ready", status, reason, message, lastTransitionTime };
}

/** Names in an answer of `GET /api/v1/stagesets`. */
export function namesOf(body: unknown): readonly string[] {
  return asArray(at(body, "items")).map((item) => `${String(at(item, "namespace"))}/${String(at(item, "name"))}`);
}
