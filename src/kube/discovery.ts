import type { ApiResource } from "./request.ts";

/** What one cluster serves, cached. */
export interface Discovery {
  /**
   * The kind at the named version, else at the group's preferred one. An unknown kind costs at most one refresh, none
   * when the last was less than 1 s ago.
   *
   * @throws {KubeError} when nothing is cached and the cluster cannot be read
   */
  find(
    kind: { readonly group: string; readonly kind: string; readonly version?: string | undefined },
    o: { readonly signal: AbortSignal },
  ): Promise<ApiResource | undefined>;
  /** The preferred resource of each group that serves a kind of this name. */
  preferredFor(kind: string, o: { readonly signal: AbortSignal }): Promise<readonly ApiResource[]>;
  all(signal: AbortSignal): Promise<readonly ApiResource[]>;
  /** The next look reads anew. */
  invalidate(): void;
}
