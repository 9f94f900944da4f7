import type { KubeRequest } from "./request.ts";

export interface SendOptions {
  readonly signal?: AbortSignal | undefined;
  /** Bounds the wait for a place among the requests in flight, and then the request itself; default 30,000. */
  readonly timeoutMs?: number | undefined;
  /** Skips the queue of the 64 requests in flight per cluster; for the lease and gate reads, which are few. */
  readonly urgent?: boolean | undefined;
  /** Called once when the headers of an answer arrived, whatever its status. */
  readonly onAnswer?: ((answer: Answer) => void) | undefined;
}

/** What is known of an answer before its body. */
export interface Answer {
  readonly httpStatus: number;
  /** The `Date` header, epoch milliseconds, whole seconds. */
  readonly dateMs?: number;
  /** `Warning` header texts, unquoted. */
  readonly warnings: readonly string[];
}

export interface StreamOptions {
  readonly signal: AbortSignal;
  /** Called when the server accepted the request; values may come much later. */
  readonly onOpen?: (() => void) | undefined;
}

/** One identity on one cluster. */
export interface KubeClient {
  /** Which cluster: a part of every cache, watch and inventory key. */
  readonly cluster: string;
  /** `controller` or `system:serviceaccount:<namespace>:<name>`. */
  readonly identity: string;
  /**
   * Sends one request, once (a 401 is repeated once when the credential can be renewed), and parses the answer.
   *
   * @throws {KubeError} every refusal and loss
   * @throws the credential's own error when none can be had
   * @throws the signal's reason, when aborted
   */
  send(request: KubeRequest, options?: SendOptions): Promise<unknown>;
  /**
   * One parsed JSON value per line, until the server ends the stream. Aborting ends it with the signal's reason.
   *
   * @throws {KubeError} as {@link KubeClient.send}; `Unreachable` when the connection is lost
   */
  stream(request: KubeRequest, options: StreamOptions): AsyncIterable<unknown>;
}
