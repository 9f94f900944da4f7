import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { publishArtifact, startArtifactServer, type ArtifactServer, type PublishOptions } from "./artifacts.ts";
import {
  createServiceAccount,
  uniqueName,
  uniqueNamespace,
  type PolicyRule,
  type TestCluster,
  type TestServiceAccount,
} from "./cluster.ts";
import { createStageSet, startTestController, type TestController, type TestControllerOptions } from "./controller.ts";
import type { Manifest } from "./test-client.ts";

const rbac = "rbac.authorization.k8s.io";
const roles = fileURLToPath(new URL("../../config/rbac/controller.yaml", import.meta.url));

/** A namespace and a controller that watches it under a ServiceAccount with exactly the rights we ship. */
export interface Tenancy extends AsyncDisposable {
  readonly namespace: string;
  /** The controller's own identity. */
  readonly self: TestServiceAccount;
  readonly controller: TestController;
  readonly server: ArtifactServer;
  /** A ServiceAccount of the namespace. */
  account(name: string, rules?: readonly PolicyRule[]): Promise<TestServiceAccount>;
  publish(
    name: string,
    files: PublishOptions["files"],
    options?: Partial<PublishOptions>,
  ): ReturnType<typeof publishArtifact>;
  release(name: string, spec: Readonly<Record<string, unknown>>): ReturnType<typeof createStageSet>;
}

export interface TenancyOptions extends Omit<TestControllerOptions, "namespaces" | "token"> {
  /** Where the controller has its rights beside the namespace it watches; default: nowhere. */
  readonly reaches?: readonly string[] | "everywhere";
  /** Where the controller's own ServiceAccount is: its own namespace, or the tenants'. */
  readonly selfIn?: "own" | "watched";
}

export async function startTenancy(cluster: TestCluster, options: TenancyOptions = {}): Promise<Tenancy> {
  const { reaches = [], selfIn = "own", ...controllerOptions } = options;
  const namespace = await uniqueNamespace(cluster);
  const home = selfIn === "watched" ? namespace : await uniqueNamespace(cluster, "system");
  const works = reaches === "everywhere" ? reaches : [namespace, ...reaches];
  const self = await createController(cluster, { namespace: home, works });
  const server = await startArtifactServer();
  const controller = await startTestController(cluster, {
    ...controllerOptions,
    namespaces: [namespace],
    token: self.token,
  });
  return {
    namespace,
    self,
    controller,
    server,
    account: (name, rules = []) => createServiceAccount(cluster, { namespace, name, rules }),
    publish: (name, files, more = {}) => publishArtifact(cluster, { server, namespace, name, files, ...more }),
    release: (name, spec) => createStageSet(cluster, { namespace, name, spec }),
    async [Symbol.asyncDispose]() {
      await controller[Symbol.asyncDispose]();
      await server.stop();
    },
  };
}

/** The controller's ServiceAccount, its shipped roles bound in the namespaces it works in. */
async function createController(
  cluster: TestCluster,
  { namespace, works }: { readonly namespace: string; readonly works: readonly string[] | "everywhere" },
): Promise<TestServiceAccount> {
  const { admin } = cluster;
  for (const document of parseAllDocuments(await readFile(roles, "utf8"))) {
    const manifest = document.toJS() as Manifest & { readonly kind: string }; // The shipped file holds manifests.
    if (manifest.kind === "ClusterRole") await admin.apply(manifest);
  }
  const name = "stageset-controller";
  const self = await createServiceAccount(cluster, { namespace, name });
  const subjects = [{ kind: "ServiceAccount", name, namespace }];
  const bind = (kind: string, metadata: Manifest["metadata"], role: string): Promise<unknown> =>
    admin.apply({
      apiVersion: `${rbac}/v1`,
      kind,
      metadata,
      roleRef: { apiGroup: rbac, kind: "ClusterRole", name: role },
      subjects,
    });
  await bind("ClusterRoleBinding", { name: uniqueName(name) }, "stageset-controller-cluster");
  if (works === "everywhere") await bind("ClusterRoleBinding", { name: uniqueName(name) }, name);
  else for (const each of works) await bind("RoleBinding", { name: `${name}-tenants`, namespace: each }, name);
  return self;
}

/** Rules on core kinds. */
export function rulesOn(resources: readonly string[], verbs: readonly string[], group = ""): readonly PolicyRule[] {
  return [{ apiGroups: [group], resources, verbs }];
}

export const everyVerb = ["get", "list", "watch", "create", "patch", "update", "delete"] as const;
