import type { KubeClient } from "../kube/client.ts";
import type { Discovery } from "../kube/discovery.ts";

/** One identity on one cluster, ready to use. */
export interface Access {
  /** `<cluster>/<identity>`. */
  readonly key: string;
  readonly client: KubeClient;
  /** Shared by all identities of the cluster; read as the controller. */
  readonly discovery: Discovery;
}

/** The controller itself, or a ServiceAccount of the own cluster assumed by TokenRequest. */
export type IdentityName = { readonly namespace: string; readonly serviceAccountName: string } | "controller";

export interface AccessProvider {
  readonly controller: Access;
  /**
   * Mints nothing yet: a missing ServiceAccount shows with the first request.
   *
   * @throws {IdentityError} `OwnServiceAccount` when a ServiceAccount is named that is the controller's own
   */
  access(id: IdentityName, o: { readonly signal: AbortSignal }): Promise<Access>;
  /** Drops the token and connection state of a ServiceAccount no StageSet uses any more. */
  release(namespace: string, name: string): void;
}
