import type { KubeObject } from "../../src/lib/kube-object.ts";
import { publishArtifact, startArtifactServer, type ArtifactServer, type PublishOptions } from "./artifacts.ts";
import { allRules, createServiceAccount, eventually, uniqueNamespace, type TestCluster } from "./cluster.ts";
import {
  createStageSet,
  messageOf,
  readyOf,
  stageSetRef,
  startTestController,
  type TestController,
} from "./controller.ts";
import type { TestControllerOptions } from "./controller.ts";

type Files = PublishOptions["files"];

/** A namespace with a controller of its own that watches only it, and an artifact server: what an engine test plays in. */
export interface Scene extends AsyncDisposable {
  readonly namespace: string;
  readonly server: ArtifactServer;
  readonly controller: TestController;
  /** Publishes the files as the ExternalArtifact of this name in the namespace. */
  publish(name: string, files: Files, options?: Partial<PublishOptions>): ReturnType<typeof publishArtifact>;
  /** A StageSet that acts as the ServiceAccount `deployer`, which may do everything in the namespace. */
  release(
    name: string,
    stages: readonly Readonly<Record<string, unknown>>[],
    spec?: Readonly<Record<string, unknown>>,
  ): Promise<KubeObject>;
  get(name: string): Promise<KubeObject | undefined>;
  /**
   * Waits until this holds of the StageSet, which must be there then.
   *
   * @throws {Error} with its Ready condition as it was last, when it does not
   */
  until(
    name: string,
    holds: (stageSet: KubeObject | undefined) => boolean,
    o?: { readonly timeoutMs?: number },
  ): Promise<KubeObject>;
  /** An object of the namespace; `v1` ConfigMap unless said. */
  object(name: string, kind?: { readonly apiVersion: string; readonly kind: string }): Promise<KubeObject | undefined>;
}

export const deploymentKind = { apiVersion: "apps/v1", kind: "Deployment" } as const;
const configMapKind = { apiVersion: "v1", kind: "ConfigMap" } as const;

export async function startScene(
  cluster: TestCluster,
  options: Omit<TestControllerOptions, "namespaces"> & {
    /** Watched beside the scene's own namespace. */
    readonly alsoWatch?: readonly string[];
    readonly clusterWide?: boolean;
  } = {},
): Promise<Scene> {
  const { alsoWatch = [], clusterWide = false, ...controllerOptions } = options;
  const { admin } = cluster;
  const namespace = await uniqueNamespace(cluster);
  const server = await startArtifactServer();
  const deployer = { namespace, name: "deployer", rules: allRules };
  await createServiceAccount(cluster, clusterWide ? { ...deployer, clusterRules: allRules } : deployer);
  const controller = await startTestController(cluster, {
    ...controllerOptions,
    namespaces: [namespace, ...alsoWatch],
  });
  return {
    namespace,
    server,
    controller,
    publish: (name, files, more = {}) => publishArtifact(cluster, { server, namespace, name, files, ...more }),
    release: (name, stages, spec = {}) =>
      createStageSet(cluster, { namespace, name, spec: { serviceAccountName: "deployer", stages, ...spec } }),
    get: (name) => admin.get(stageSetRef(namespace, name)),
    async until(name, holds, o = {}) {
      let last: KubeObject | undefined;
      await eventually(async () => {
        last = await admin.get(stageSetRef(namespace, name));
        if (!holds(last)) throw new Error(`${readyOf(last)}: ${messageOf(last)}`);
        return true;
      }, o);
      if (last === undefined) throw new Error("the StageSet is gone");
      return last;
    },
    object: (name, kind = configMapKind) => admin.get({ ...kind, metadata: { name, namespace } }),
    async [Symbol.asyncDispose]() {
      await controller[Symbol.asyncDispose]();
      await server.stop();
    },
  };
}

/** Every state of one object from now on, as a watch reports them. */
export interface History extends Disposable {
  readonly states: readonly KubeObject[];
}

export function follow(
  { admin }: TestCluster,
  ref: { readonly apiVersion: string; readonly kind: string; readonly namespace: string; readonly name: string },
): History {
  const abort = new AbortController();
  const states: KubeObject[] = [];
  const run = async (): Promise<void> => {
    const { apiVersion, kind, namespace } = ref;
    for await (const { object } of admin.watch({ apiVersion, kind, namespace }, { signal: abort.signal }))
      if (object.metadata.name === ref.name) states.push(object);
  };
  run().catch(() => undefined); // The test sees that states are missing.
  return { states, [Symbol.dispose]: () => abort.abort() };
}
