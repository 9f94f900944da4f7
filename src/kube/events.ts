import { linkSignals } from "../lib/abort.ts";
import { abortable } from "../lib/abortable.ts";
import type { Clock } from "../lib/clock.ts";
import type { Random } from "../lib/random.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { KubeClient } from "./client.ts";
import { isKubeError } from "./error.ts";
import { microTime } from "./lease.ts";
import { type ApiResource, createRequest, mergePatchRequest } from "./request.ts";
import { sendWithRetry } from "./retry.ts";

/** The API server refuses longer notes (events.k8s.io/v1 validation). */
const maxNoteBytes = 1024;

/** An identical (object, reason, note) is written at most once in this time (spec 60 §7). */
const repeatAfterMs = 600_000;

const maxQueue = 1000;
const maxSeries = 4096;
/** New events of one object: a burst, then one per interval. A hostile object must not fill the cluster with events. */
const burstPerObject = 100;
const refillMs = 5000;

const eventsResource: ApiResource = {
  group: "events.k8s.io",
  version: "v1",
  kind: "Event",
  plural: "events",
  namespaced: true,
  verbs: [],
};

export interface ObjectReference {
  readonly apiVersion: string;
  readonly kind: string;
  /** Absent for cluster-scoped objects, whose events go to namespace `default`. */
  readonly namespace?: string | undefined;
  readonly name: string;
  readonly uid?: string | undefined;
  readonly resourceVersion?: string | undefined;
}

export interface RecordedEvent {
  readonly regarding: ObjectReference;
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  /** Cut to 1024 bytes. */
  readonly note: string;
  readonly related?: ObjectReference | undefined;
  /** Of the Event itself; they do not tell one Event from another. */
  readonly annotations?: Readonly<Record<string, string>> | undefined;
}

export interface EventRecorder extends AsyncDisposable {
  /** Never blocks or fails: what does not fit the queue, or is refused, is dropped and logged. */
  record(event: RecordedEvent): void;
  /** Waits until what is queued was sent or dropped. */
  flush(o: { readonly signal: AbortSignal }): Promise<void>;
}

export interface EventRecorderOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** `stageset-controller`. */
  readonly reportingController: string;
  /** The pod's name. */
  readonly reportingInstance: string;
  /** Told of each event that is not a repetition, before it is sent. */
  readonly onEvent?: ((event: RecordedEvent) => void) | undefined;
}

interface Series {
  readonly namespace: string;
  name: string;
  count: number;
  writtenAt: number;
}

interface Job {
  readonly event: RecordedEvent;
  readonly series: Series;
  readonly repeated: boolean;
}

/** Starts nothing until the first event. Disposing drops what is queued. */
export function createEventRecorder(options: EventRecorderOptions): EventRecorder {
  const { clock, logger } = options;
  const queue: Job[] = [];
  const series = new Map<string, Series>();
  const budget = createBudget(clock);
  const stopped = linkSignals();
  let pumping: Promise<void> | undefined;
  let dropped = 0;

  const pump = async (): Promise<void> => {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      try {
        await write(options, job, stopped.signal);
      } catch (error) {
        if (stopped.signal.aborted) return;
        logger.warn("cannot record an event", { reason: job.event.reason, ...nameOf(job.event.regarding), error });
      }
    }
    if (dropped > 0) logger.warn("events were dropped", { count: dropped });
    dropped = 0;
  };
  const enqueue = (job: Job): void => {
    if (queue.length >= maxQueue || stopped.signal.aborted) {
      dropped++;
      return;
    }
    queue.push(job);
    pumping ??= pump().finally(() => {
      pumping = undefined;
    });
  };
  return {
    record(raw) {
      const event = { ...raw, note: cutNote(raw.note) };
      const key = JSON.stringify([
        event.regarding.uid ?? nameOf(event.regarding),
        event.type,
        event.reason,
        event.note,
      ]);
      const known = series.get(key);
      const now = clock.monotonic();
      if (known !== undefined) {
        known.count++;
        if (now - known.writtenAt < repeatAfterMs) return;
        known.writtenAt = now;
        enqueue({ event, series: known, repeated: true });
        return;
      }
      if (!budget.take(`${event.regarding.namespace ?? ""}/${event.regarding.kind}/${event.regarding.name}`)) {
        dropped++;
        return;
      }
      const fresh: Series = {
        namespace: event.regarding.namespace ?? "default",
        name: eventName(event.regarding.name, options.random),
        count: 1,
        writtenAt: now,
      };
      series.set(key, fresh);
      trim(series, maxSeries);
      options.onEvent?.(event);
      enqueue({ event, series: fresh, repeated: false });
    },
    async flush({ signal }) {
      while (pumping !== undefined) await abortable(pumping, signal);
    },
    async [Symbol.asyncDispose]() {
      stopped.abort(new Error("the event recorder is closed"));
      queue.length = 0;
      await pumping;
    },
  };
}

async function write(options: EventRecorderOptions, job: Job, signal: AbortSignal): Promise<void> {
  const { client, clock, random } = options;
  const { series } = job;
  const send = (request: Parameters<KubeClient["send"]>[0]): Promise<unknown> =>
    sendWithRetry(client, request, { clock, random, signal, timeoutMs: 10_000 });
  const observed = microTime(clock.now());
  if (job.repeated) {
    try {
      const patch = { series: { count: Math.max(2, series.count), lastObservedTime: observed } };
      await send(mergePatchRequest(eventsResource, { namespace: series.namespace, name: series.name, patch }));
      return;
    } catch (error) {
      // Events live for an hour by default: the series goes on under a new name.
      if (!isKubeError(error, "NotFound")) throw error;
      series.name = eventName(job.event.regarding.name, random);
    }
  }
  await send(
    createRequest(eventsResource, { namespace: series.namespace, object: eventObject(options, job, observed) }),
  );
}

function eventObject(options: EventRecorderOptions, { event, series }: Job, time: string): unknown {
  return {
    apiVersion: "events.k8s.io/v1",
    kind: "Event",
    metadata: {
      namespace: series.namespace,
      name: series.name,
      ...(event.annotations === undefined ? {} : { annotations: event.annotations }),
    },
    eventTime: time,
    reportingController: options.reportingController,
    reportingInstance: options.reportingInstance.slice(0, 128),
    action: event.reason,
    reason: event.reason,
    type: event.type,
    note: event.note,
    regarding: event.regarding,
    ...(event.related === undefined ? {} : { related: event.related }),
    ...(series.count > 1 ? { series: { count: series.count, lastObservedTime: time } } : {}),
  };
}

function nameOf(regarding: ObjectReference): { readonly namespace?: string | undefined; readonly name: string } {
  return { namespace: regarding.namespace, name: regarding.name };
}

function eventName(object: string, random: Random): string {
  const suffix = Math.floor(random() * 2 ** 48).toString(16);
  return `${object.slice(0, 230)}.${suffix.padStart(12, "0")}`;
}

/** At most 1024 bytes of UTF-8, cut between characters and then ending in `…`. */
export function cutNote(note: string): string {
  if (Buffer.byteLength(note) <= maxNoteBytes) return note;
  const bytes = Buffer.from(note).subarray(0, maxNoteBytes - Buffer.byteLength("…"));
  let end = bytes.length;
  // A byte of the form 10xxxxxx continues a character; the one before them starts it.
  const next = Buffer.from(note)[end];
  if (next !== undefined && (next & 0xc0) === 0x80) {
    while (end > 0 && ((bytes[end - 1] ?? 0) & 0xc0) === 0x80) end--;
    end--;
  }
  return `${bytes.subarray(0, Math.max(0, end)).toString("utf8")}…`;
}

function createBudget(clock: Clock): { take(object: string): boolean } {
  const spent = new Map<string, { tokens: number; at: number }>();
  return {
    take(object) {
      const now = clock.monotonic();
      const held = spent.get(object) ?? { tokens: burstPerObject, at: now };
      spent.delete(object);
      spent.set(object, held);
      trim(spent, maxSeries);
      held.tokens = Math.min(burstPerObject, held.tokens + (now - held.at) / refillMs);
      held.at = now;
      if (held.tokens < 1) return false;
      held.tokens--;
      return true;
    },
  };
}

/** Drops the oldest entries beyond `most`. */
function trim(map: Map<string, unknown>, most: number): void {
  for (const key of map.keys()) {
    if (map.size <= most) return;
    map.delete(key);
  }
}
