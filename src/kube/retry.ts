import { type Clock, sleep } from "../lib/clock.ts";
import { jitter, type Random } from "../lib/random.ts";
import type { KubeClient, SendOptions } from "./client.ts";
import { isKubeError, type KubeError } from "./error.ts";
import type { KubeRequest } from "./request.ts";

/** Spec 20 §6.5. */
const attempts = 3;
const firstDelayMs = 250;
/** A server that asks for more is left to the caller's own backoff. */
const longestDelayMs = 10_000;

export interface RetryOptions extends SendOptions {
  readonly clock: Clock;
  readonly random: Random;
}

/**
 * Sends; 429, 5xx and lost connections get three attempts in all, with jittered delays that honour `Retry-After`.
 * A request that may have taken effect is repeated only if {@link isRepeatable}.
 *
 * @throws what {@link KubeClient.send} throws, of the last attempt
 */
export async function sendWithRetry(client: KubeClient, request: KubeRequest, options: RetryOptions): Promise<unknown> {
  const { clock, random, ...sendOptions } = options;
  for (let attempt = 1; ; attempt++) {
    try {
      return await client.send(request, sendOptions);
    } catch (error) {
      const delayMs = attempt >= attempts ? undefined : retryDelayMs(request, error, attempt);
      if (delayMs === undefined) throw error;
      await sleep(clock, jitter(delayMs, 0.2, random), options.signal);
    }
  }
}

/** How long to wait before the next attempt; undefined: do not repeat. `attempt` counts from 1. */
export function retryDelayMs(request: KubeRequest, error: unknown, attempt: number): number | undefined {
  if (!isKubeError(error, "TooManyRequests", "ServerError", "Timeout", "Unreachable")) return undefined;
  if (!worthRepeating(error)) return undefined;
  if (error.afterSend && !isRepeatable(request)) return undefined;
  const delayMs = error.retryAfterMs ?? firstDelayMs * 4 ** (attempt - 1);
  return delayMs > longestDelayMs ? undefined : delayMs;
}

/** A request that ran into its own deadline has used up its time already. */
function worthRepeating(error: KubeError): boolean {
  return error.reason !== "Timeout" || error.httpStatus !== undefined;
}

/**
 * Sending it twice leaves the cluster as sending it once does: reads, dry runs, applies, merge patches, replaces (their
 * precondition turns a repeat into a conflict), deletes, and token requests. Creates and JSON patches are not.
 */
export function isRepeatable(request: KubeRequest): boolean {
  if (request.query?.["dryRun"] === "All") return true;
  switch (request.method) {
    case "GET":
    case "PUT":
    case "DELETE":
      return true;
    case "PATCH":
      return request.contentType !== "application/json-patch+json";
    case "POST":
      return request.path.endsWith("/token");
  }
}
