import { stringify } from "yaml";
import { startControlPlane, type ControlPlane } from "../../src/dev/control-plane.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { clusterOf, type TestCluster } from "./cluster.ts";

const rbac = "rbac.authorization.k8s.io";

/** Another API server, for StageSets that name it with `spec.kubeConfig`. */
export interface RemoteCluster extends AsyncDisposable {
  readonly plane: ControlPlane;
  readonly cluster: TestCluster;
  /** A namespace there of the same name, in which this user may do everything. */
  prepare(namespace: string, username: string): Promise<void>;
}

export async function startRemote(options: Parameters<typeof startControlPlane>[0] = {}): Promise<RemoteCluster> {
  const plane = await startControlPlane(options);
  const cluster = clusterOf(plane);
  return {
    plane,
    cluster,
    async prepare(namespace, username) {
      const { admin } = cluster;
      await admin.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
      await admin.apply({
        apiVersion: `${rbac}/v1`,
        kind: "RoleBinding",
        metadata: { name: "tenant", namespace },
        roleRef: { apiGroup: rbac, kind: "ClusterRole", name: "cluster-admin" },
        subjects: [{ kind: "User", name: username }],
      });
    },
    [Symbol.asyncDispose]: () => plane.stop(),
  };
}

/** Members of the only cluster and user of a kubeconfig, as they are written in it. */
export interface KubeConfigParts {
  readonly cluster: Readonly<Record<string, unknown>>;
  readonly user?: Readonly<Record<string, unknown>>;
}

export function kubeConfigText({ cluster, user = {} }: KubeConfigParts): string {
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    "current-context": "there",
    clusters: [{ name: "cluster", cluster }],
    users: [{ name: "user", user }],
    contexts: [{ name: "there", context: { cluster: "cluster", user: "user" } }],
  });
}

export function base64(text: string): string {
  return Buffer.from(text, "utf8").toString("base64");
}

/** Writes the Secret that holds the text, or another text than before. */
export function writeKubeConfig(
  { admin }: Pick<TestCluster, "admin">,
  o: { readonly namespace: string; readonly name: string; readonly text: string; readonly key?: string },
): Promise<KubeObject> {
  const { namespace, name, text, key = "value" } = o;
  return admin.apply({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { namespace, name },
    data: { [key]: base64(text) },
  });
}
