import { request } from "undici";
import { deadline, linkSignals } from "../lib/abort.ts";
import { sleep, type Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/telemetry.ts";

const timeoutMs = 5_000;
const retries = 3;
const firstRetryMs = 500;
const mostWaiting = 1_000;

/** Posts values as JSON to one URL, one after the other; never blocks or fails its caller. Disposing drops the rest. */
export interface JsonPoster extends AsyncDisposable {
  post(value: unknown): void;
}

/** A 5xx answer and a lost connection are tried again, three times. Where the URL leads is the operator's choice. */
export function createJsonPoster(options: {
  readonly url: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What is posted, for log records. */
  readonly what: string;
}): JsonPoster {
  const { clock, logger, what } = options;
  const waiting: string[] = [];
  const stopped = linkSignals();
  let pumping: Promise<void> | undefined;
  const pump = async (): Promise<void> => {
    for (let body = waiting.shift(); body !== undefined; body = waiting.shift()) {
      const why = await deliver(options, body, stopped.signal);
      if (stopped.signal.aborted) return;
      if (why !== undefined) logger.warn(`cannot post an ${what}`, { error: why });
    }
  };
  return {
    post(value) {
      if (waiting.length >= mostWaiting || stopped.signal.aborted) return;
      waiting.push(JSON.stringify(value));
      pumping ??= pump().finally(() => {
        pumping = undefined;
      });
    },
    async [Symbol.asyncDispose]() {
      stopped.abort(new Error("the poster is closed"));
      waiting.length = 0;
      await pumping;
    },
  };

  /** Undefined once it was taken; else why not, without the URL, which may carry a token. */
  async function deliver(
    { url }: { readonly url: string },
    body: string,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    let why: string | undefined;
    for (let attempt = 0; attempt <= retries; attempt++) {
      try {
        if (attempt > 0) await sleep(clock, firstRetryMs * 2 ** (attempt - 1), signal);
        using limit = deadline(clock, { timeoutMs, what: `posting an ${what}`, parent: signal });
        const headers = { "content-type": "application/json" };
        const response = await request(url, { method: "POST", headers, body, signal: limit.signal });
        await response.body.dump();
        if (response.statusCode < 400) return undefined;
        why = `the answer was ${response.statusCode}`;
        if (response.statusCode < 500) return why;
      } catch (error) {
        if (signal.aborted) return undefined;
        why = error instanceof Error ? error.name : "unreachable";
      }
    }
    return why;
  }
}
