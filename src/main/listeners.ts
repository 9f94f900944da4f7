import { createHealth } from "../http/health.ts";
import { createMetricsHandler, type MetricsPage } from "../http/metrics.ts";
import type { HttpHandler } from "../http/message.ts";
import { listen, type Listener, type ListenOptions } from "../http/server.ts";
import { sleep, type Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { BindAddress, Config } from "./config.ts";
import type { Readiness } from "./readiness.ts";
import { StartError } from "./start-error.ts";

/** First and longest wait before a listener that could not bind is tried again (spec 40 §8). */
const firstRetryMs = 1_000;
const longestRetryMs = 30_000;

/** A listener that is bound as soon as it can be, and the wait for it never stops anything else. */
export interface PatientListener extends AsyncDisposable {
  readonly isListening: () => boolean;
  /** The port it listens on; undefined while it does not. */
  readonly port: () => number | undefined;
}

/** What one listener bounds otherwise than all do. */
export type ListenerBounds = Pick<ListenOptions, "unansweredPerConnection" | "slowReaders">;

/** Binds when `when` has resolved (never, when it is rejected: the stop came first), and again after each failure, until disposed. */
export function bindPatiently(options: {
  readonly address: BindAddress;
  readonly handler: HttpHandler;
  /** Of every answer. */
  readonly headers: Readonly<Record<string, string>>;
  readonly bounds?: ListenerBounds;
  readonly when: Promise<unknown>;
  readonly clock: Clock;
  readonly logger: Logger;
}): PatientListener {
  const { address, clock, logger } = options;
  const abort = new AbortController();
  let listener: Listener | undefined;
  const bind = async (): Promise<void> => {
    const isDue = await options.when.then(
      () => true,
      () => false,
    );
    if (!isDue) return;
    for (let delayMs = firstRetryMs; !isAborted(abort.signal); delayMs = Math.min(longestRetryMs, delayMs * 2)) {
      try {
        const { handler, headers, bounds } = options;
        listener = await listen({ ...address, handler, headers, ...bounds, clock, logger });
        return;
      } catch (error) {
        logger.error("cannot listen; trying again", { address: `${address.host ?? ""}:${address.port}`, error });
        await sleep(clock, delayMs, abort.signal);
      }
    }
  };
  const bound = bind().catch((error: unknown) => {
    if (!isAborted(abort.signal)) throw error;
  });
  return {
    isListening: () => listener !== undefined,
    port: () => listener?.address.port,
    async [Symbol.asyncDispose]() {
      abort.abort(new Error("stopping"));
      await Promise.race([bound.catch(() => undefined), Promise.resolve()]);
      await listener?.[Symbol.asyncDispose]();
      listener = undefined;
    },
  };
}

/**
 * Binds probes and metrics, which the process cannot do without when they are asked for; the stack closes them.
 *
 * @throws {StartError} an address cannot be bound
 */
export async function openFixedListeners(
  stack: AsyncDisposableStack,
  options: {
    readonly config: Config;
    readonly metrics: MetricsPage;
    readonly readiness: Readiness;
    readonly clock: Clock;
    readonly logger: Logger;
  },
): Promise<{ readonly health: Listener | undefined; readonly metrics: Listener | undefined }> {
  const { config, readiness, clock, logger } = options;
  const live = [{ name: "ping", isHealthy: () => true }];
  const open = async (name: "health" | "metrics", handler: HttpHandler): Promise<Listener | undefined> => {
    const address = config[name];
    if (address === undefined) return undefined;
    try {
      return stack.use(await listen({ ...address, handler, clock, logger }));
    } catch (error) {
      const where = `${address.host ?? ""}:${address.port}`;
      const why = error instanceof Error ? error.message : String(error);
      throw new StartError(`Cannot listen on "${where}" for ${name}: ${why}`, { cause: error });
    }
  };
  return {
    health: await open("health", createHealth({ live, ready: readiness.checks })),
    metrics: await open("metrics", createMetricsHandler(options.metrics)),
  };
}

/** Read anew after each wait. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}
