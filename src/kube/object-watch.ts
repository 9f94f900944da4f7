import { linkSignals } from "../lib/abort.ts";
import { type Clock, sleep, systemClock } from "../lib/clock.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { type Random, systemRandom } from "../lib/random.ts";
import type { KubeClient } from "./client.ts";
import { KubeError } from "./error.ts";
import { type ApiResource, watchRequest } from "./request.ts";
import { backoffMs, type WatchPulse, watchSilence } from "./watch.ts";
import { parseWatchEvent, type WatchEvent } from "./watch-step.ts";

export interface ObjectWatchOptions {
  readonly client: KubeClient;
  readonly resource: ApiResource;
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  /** Only metadata is sent. */
  readonly metadataOnly?: boolean | undefined;
  /** Each object that exists comes as ADDED first. */
  readonly onEvent: (event: { readonly type: "ADDED" | "MODIFIED" | "DELETED"; readonly object: KubeObject }) => void;
  /** The server does not let this identity watch (403, 405) or does not serve the kind: poll instead. The watch has ended. */
  readonly onRefused: (error: KubeError) => void;
  /** Changes may have been missed, deletions too: what is waited for must be read again. ADDED events follow. */
  readonly onGap?: (() => void) | undefined;
  /** A stream is open. Every change from now on comes as an event; `resumed`: so does every one before. */
  readonly onOpen?: ((o: { readonly resumed: boolean }) => void) | undefined;
  /** The stream ended; another follows. */
  readonly onDown?: (() => void) | undefined;
  readonly clock?: Clock | undefined;
  readonly random?: Random | undefined;
  readonly signal: AbortSignal;
}

/**
 * Follows the objects a selector picks without keeping them, until refused or aborted; resolves either way.
 * Lost streams resume where they were, with backoff from 0.5 to 30 s.
 */
export async function watchObjects(options: ObjectWatchOptions): Promise<void> {
  const { signal, clock = systemClock, random = systemRandom } = options;
  let resourceVersion: string | undefined;
  let failures = 0;
  while (!signal.aborted) {
    const round = await follow({ ...options, clock }, resourceVersion);
    options.onDown?.();
    if (isAborted(signal)) return;
    if (round.error !== undefined && (round.refused === true || isRefusal(round.error))) {
      options.onRefused(round.error);
      return;
    }
    const lost =
      round.error?.reason === "Gone" || round.error?.reason === "BadRequest" || round.error?.httpStatus === 504;
    resourceVersion = lost ? undefined : round.resourceVersion;
    if (resourceVersion === undefined) options.onGap?.();
    failures = round.lively ? 0 : failures + 1;
    const error = round.error ?? endedAtOnce;
    if (round.error === undefined && round.lively) continue;
    try {
      await sleep(clock, backoffMs(error, Math.max(1, failures), random), signal);
    } catch (reason) {
      if (!isAborted(signal)) throw reason;
    }
  }
}

const endedAtOnce = new KubeError({ reason: "Unreachable", message: "Cannot watch: the stream ended at once" });

/** Read anew after each wait; a plain property read would be taken for unchanged. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

function isRefusal(error: KubeError): boolean {
  return error.reason === "Forbidden" || error.reason === "NotServed" || error.httpStatus === 405;
}

interface Round {
  /** From where a next stream misses nothing; undefined: only from the start. */
  readonly resourceVersion: string | undefined;
  readonly lively: boolean;
  readonly error?: KubeError;
  /** No credential can be had: polling will show why. */
  readonly refused?: boolean;
}

async function follow(
  options: ObjectWatchOptions & { readonly clock: Clock },
  from: string | undefined,
): Promise<Round> {
  const { namespace, labelSelector, fieldSelector, metadataOnly, resource, clock } = options;
  let resourceVersion = from;
  let lively = false;
  const pulse: WatchPulse = { downSince: undefined, heardAt: clock.monotonic() };
  using linked = linkSignals(options.signal);
  using silence = watchSilence(clock, pulse, () =>
    linked.abort(
      new KubeError({ reason: "Timeout", message: `Cannot watch "${resource.plural}": the stream went silent` }),
    ),
  );
  try {
    const request = watchRequest(resource, {
      namespace,
      labelSelector,
      fieldSelector,
      metadataOnly,
      resourceVersion,
      timeoutSeconds: 600,
    });
    silence.start();
    const onOpen = (): void => options.onOpen?.({ resumed: from !== undefined });
    for await (const value of options.client.stream(request, { signal: linked.signal, onOpen })) {
      pulse.heardAt = clock.monotonic();
      const event = parseWatchEvent(resource, value);
      if (event === undefined) continue;
      if (event.type === "ERROR") return { resourceVersion, lively, error: event.error };
      lively = true;
      resourceVersion = resumeAt(resourceVersion, event);
      if (event.type !== "BOOKMARK") options.onEvent(event);
    }
    return { resourceVersion, lively };
  } catch (error) {
    if (error instanceof KubeError) return { resourceVersion, lively, error };
    const message = error instanceof Error ? error.message : String(error);
    return {
      resourceVersion,
      lively,
      error: new KubeError({ reason: "Unauthorized", message, cause: error }),
      refused: true,
    };
  }
}

/**
 * The objects a stream starts with come as ADDED in any order of versions, so none of these says how far one has read;
 * the first bookmark, change or deletion does.
 */
function resumeAt(
  resourceVersion: string | undefined,
  event: WatchEvent & { readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" },
): string | undefined {
  if (event.type === "BOOKMARK") return event.resourceVersion;
  if (event.type === "ADDED" && resourceVersion === undefined) return undefined;
  return event.object.metadata.resourceVersion ?? resourceVersion;
}
