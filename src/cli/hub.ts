import { createKubeClient, type KubeClient } from "../kube/client.ts";
import { createDiscovery, type Discovery } from "../kube/discovery.ts";
import { loadKubeConfig } from "../kube/endpoint.ts";
import { KubeConfigError } from "../kube/kubeconfig.ts";
import { CommandFailed, type CommandIo } from "./command-io.ts";

/** Flags that say which cluster a command talks to (spec 70 §2). */
export interface HubFlags {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly cluster?: string;
  readonly user?: string;
  readonly namespace?: string;
}

/** The cluster that holds the StageSets, as the caller. */
export interface Hub extends AsyncDisposable {
  readonly client: KubeClient;
  readonly discovery: Discovery;
  /** `-n`, else the context's, else the pod's, else `default`. */
  readonly namespace: string;
}

/** @throws {CommandFailed} when no cluster can be found */
export async function openHub(flags: HubFlags, io: CommandIo): Promise<Hub> {
  try {
    const { env, clock } = io;
    const { kubeconfig, context, cluster, user } = flags;
    const loaded = await loadKubeConfig({ flag: kubeconfig, context, cluster, user, env, prefer: "home" });
    const client = createKubeClient({ ...loaded, clock, identity: "caller", userAgent: "stagesetctl" });
    return {
      client,
      discovery: createDiscovery({ client, clock }),
      namespace: flags.namespace ?? loaded.namespace ?? env["POD_NAMESPACE"] ?? "default",
      [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
    };
  } catch (error) {
    if (error instanceof KubeConfigError) throw new CommandFailed(error.message, { cause: error });
    throw error;
  }
}
