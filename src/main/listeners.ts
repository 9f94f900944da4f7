import { listen, type Listener } from "../http/server.ts";
import type { HttpHandler } from "../http/message.ts";
import { sleep, type Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { BindAddress } from "./config.ts";

/** First and longest wait before a listener that could not bind is tried again (spec 40 §8). */
const firstRetryMs = 1_000;
const longestRetryMs = 30_000;

/** A listener that is bound as soon as it can be, and the wait for it never stops anything else. */
export interface PatientListener extends AsyncDisposable {
  readonly isListening: () => boolean;
  /** The port it listens on; undefined while it does not. */
  readonly port: () => number | undefined;
}

/** Binds when `when` has resolved, and again after each failure, until disposed. */
export function bindPatiently(options: {
  readonly address: BindAddress;
  readonly handler: HttpHandler;
  readonly when: Promise<unknown>;
  readonly clock: Clock;
  readonly logger: Logger;
}): PatientListener {
  const { address, clock, logger } = options;
  const abort = new AbortController();
  let listener: Listener | undefined;
  const bind = async (): Promise<void> => {
    await options.when;
    for (let delayMs = firstRetryMs; !isAborted(abort.signal); delayMs = Math.min(longestRetryMs, delayMs * 2)) {
      try {
        listener = await listen({ ...address, handler: options.handler, clock, logger });
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

/** Read anew after each wait. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}
