import { linkSignals } from "../lib/abort.ts";
import { type Clock, sleep } from "../lib/clock.ts";
import { jitter, type Random } from "../lib/random.ts";
import type { KubeClient } from "./client.ts";
import { isKubeError, KubeError } from "./error.ts";
import { endlessList, mostPages } from "./pages.ts";
import { type ApiResource, listRequest, watchRequest } from "./request.ts";
import {
  parsePage,
  parseWatchEvent,
  startOfWatch,
  stepWatch,
  type StoreEffect,
  type WatchInput,
  type WatchPosition,
} from "./watch-step.ts";

/** A watch that brought nothing, not even a bookmark, for this long is taken for dead and opened anew (spec 40 §8.2). */
export const silentAfterMs = 120_000;

const pageSize = 500;
const shortestStreamSeconds = 300;
const firstBackoffMs = 500;
const longestBackoffMs = 30_000;
/** Missing kinds and missing rights come with an install: they are looked for more often. */
const longestRefusedBackoffMs = 3000;
/** A stream the server ends sooner than this without a word counts as a failure, so that it cannot spin. */
const shortestStreamMs = 1000;

export interface WatchOptions {
  readonly client: KubeClient;
  readonly resource: ApiResource;
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  readonly metadataOnly?: boolean | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly apply: (effect: StoreEffect) => void;
  /** A list or a watch failed; it is tried again. */
  readonly onFailure: (error: KubeError) => void;
  /** The watch is open, and after a failure well again. */
  readonly onOpen?: (() => void) | undefined;
}

/** What a running watch knows about its connection; monotonic milliseconds. */
export interface WatchPulse {
  /** Since when no stream is open; undefined: one is. */
  downSince: number | undefined;
  /** When the stream opened or last brought something. */
  heardAt: number;
}

/**
 * Lists, then follows changes, until `signal` aborts. Never gives up: failures back off from 0.5 to 30 s.
 *
 * @throws the signal's reason
 */
export async function runWatch(options: WatchOptions, pulse: WatchPulse, signal: AbortSignal): Promise<never> {
  let position = startOfWatch;
  let failures = 0;
  let pages = 0;
  for (;;) {
    signal.throwIfAborted();
    pages = position.kind === "list" && position.page !== undefined ? pages + 1 : 0;
    const round: Round =
      pages >= mostPages
        ? { position: startOfWatch, error: endlessList(`"${options.resource.plural}"`), lively: false }
        : position.kind === "list"
          ? await readPage(options, position, signal)
          : await follow(options, { position, pulse, signal });
    position = round.position;
    if (round.lively) failures = 0;
    if (round.error === undefined) continue;
    failures++;
    options.onFailure(round.error);
    await sleep(options.clock, backoffMs(round.error, failures, options.random), signal);
  }
}

/** Exported for its table test. `failures` counts from 1. */
export function backoffMs(error: KubeError, failures: number, random: Random): number {
  // A version that is too old is no trouble of the server's: read the list at once, unless it happens again.
  if (error.reason === "Gone" && failures === 1) return 0;
  const longest = isKubeError(error, "Forbidden", "NotServed") ? longestRefusedBackoffMs : longestBackoffMs;
  return jitter(Math.min(longest, firstBackoffMs * 2 ** Math.min(failures - 1, 16)), 0.2, random);
}

interface Round {
  readonly position: WatchPosition;
  readonly error?: KubeError;
  /** The server showed that the watch works. */
  readonly lively: boolean;
}

async function readPage(options: WatchOptions, position: WatchPosition, signal: AbortSignal): Promise<Round> {
  const from = position.kind === "list" ? position : startOfWatch;
  const page = from.kind === "list" ? from.page : undefined;
  const whole = from.kind === "list" && from.whole;
  try {
    const body = await options.client.send(
      listRequest(options.resource, { ...selection(options), limit: whole ? undefined : pageSize, continue: page }),
      { signal, timeoutMs: 60_000 },
    );
    return { position: take(options, position, parsePage(options.resource, body)).position, lively: false };
  } catch (error) {
    return failedRound(options, { position, error, lively: false }, signal);
  }
}

async function follow(
  options: WatchOptions,
  {
    position: from,
    pulse,
    signal,
  }: { readonly position: WatchPosition; readonly pulse: WatchPulse; readonly signal: AbortSignal },
): Promise<Round> {
  const { clock } = options;
  let position = from;
  let lively = false;
  const startedAt = clock.monotonic();
  using linked = linkSignals(signal);
  using silence = watchSilence(clock, pulse, () =>
    linked.abort(
      new KubeError({
        reason: "Timeout",
        message: `Cannot watch "${options.resource.plural}": the stream went silent`,
      }),
    ),
  );
  try {
    for await (const value of options.client.stream(requestAt(options, from), {
      signal: linked.signal,
      onOpen: () => {
        pulse.downSince = undefined;
        pulse.heardAt = clock.monotonic();
        silence.start();
        options.onOpen?.();
      },
    })) {
      pulse.heardAt = clock.monotonic();
      const event = parseWatchEvent(options.resource, value);
      if (event === undefined) continue;
      const step = take(options, position, { kind: "event", event });
      position = step.position;
      if (step.restart !== undefined) return { position, error: step.restart, lively };
      lively = true;
    }
  } catch (error) {
    return failedRound(options, { position, error, lively }, signal);
  } finally {
    pulse.downSince ??= clock.monotonic();
  }
  const lasted = clock.monotonic() - startedAt;
  if (lively || lasted >= shortestStreamMs) return { position, lively: true };
  const error = new KubeError({
    reason: "Unreachable",
    message: `Cannot watch "${options.resource.plural}": the stream ended at once`,
  });
  return { position, error, lively };
}

function requestAt(options: WatchOptions, position: WatchPosition) {
  return watchRequest(options.resource, {
    ...selection(options),
    resourceVersion: position.kind === "watch" ? position.resourceVersion : undefined,
    timeoutSeconds: Math.round(shortestStreamSeconds * (1 + options.random())),
  });
}

function selection(options: WatchOptions) {
  const { namespace, labelSelector, fieldSelector, metadataOnly } = options;
  return { namespace, labelSelector, fieldSelector, metadataOnly };
}

function take(options: WatchOptions, position: WatchPosition, input: WatchInput) {
  const step = stepWatch(position, input);
  for (const effect of step.effects) options.apply(effect);
  return step;
}

function failedRound(
  options: WatchOptions,
  { position, error, lively }: { readonly position: WatchPosition; readonly error: unknown; readonly lively: boolean },
  signal: AbortSignal,
): Round {
  signal.throwIfAborted();
  const failure =
    error instanceof KubeError
      ? error
      : // A credential that cannot be had: its message is fit to show, its class is not this layer's.
        new KubeError({
          reason: "Unauthorized",
          message: error instanceof Error ? error.message : String(error),
          cause: error,
        });
  return { position: take(options, position, { kind: "failed", error: failure }).position, error: failure, lively };
}

/** Calls `onSilent` once `pulse.heardAt` is {@link silentAfterMs} ago, from the call of `start` on. */
export function watchSilence(clock: Clock, pulse: WatchPulse, onSilent: () => void): Disposable & { start(): void } {
  let timer: Disposable | undefined;
  const arm = (delayMs: number): void => {
    timer = clock.timer(delayMs, () => {
      const leftMs = pulse.heardAt + silentAfterMs - clock.monotonic();
      if (leftMs <= 0) onSilent();
      else arm(leftMs);
    });
  };
  return {
    start: () => {
      if (timer === undefined) arm(silentAfterMs);
    },
    [Symbol.dispose]: () => timer?.[Symbol.dispose](),
  };
}
