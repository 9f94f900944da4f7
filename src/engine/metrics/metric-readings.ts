import type { MetricSource } from "../../api/stage-set.ts";
import { sourceError, type MetricAnswer } from "../../domain/metrics/metric-answer.ts";
import type { Identity } from "../../domain/pass/state.ts";
import type { Access } from "../../identity/access.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../lib/telemetry.ts";
import type { StageSetKey } from "../journal.ts";
import type { ReadMetric } from "./metric-source.ts";

/** What a metric source answered, and when. */
export interface MetricReading {
  readonly answer: MetricAnswer;
  /** When the answer came, monotonic ms: tells one reading from the next. */
  readonly readAt: number;
}

/** What a pass wants to know. */
export interface MetricQuestion {
  /** Tells it from the others of its StageSet: `budget`, or `analysis <stage> <check>`. */
  readonly name: string;
  readonly source: MetricSource;
  /** As whom the Secret with the token is read (spec 50 §1.1): see `credentialIdentity`. */
  readonly as: Identity;
  /** An answer is used again for so long. At least a second. */
  readonly maxAgeMs: number;
}

/**
 * The numbers of metric sources, asked for beside the passes: a query may take half a minute, and longer to get its turn,
 * and no pass keeps its place for that. A pass that finds no answer parks, and is woken by it.
 */
export interface MetricReadings extends Disposable {
  /**
   * The latest answer, unless it is too old or was to another question; then the source is asked, once however often this is
   * called, and the key woken when there is an answer. Undefined until then.
   */
  latest(key: StageSetKey, question: MetricQuestion): MetricReading | undefined;
  /** The StageSet is gone: what is under way is dropped. */
  release(key: StageSetKey): void;
}

export interface MetricReadingsOptions {
  readonly read: ReadMetric;
  readonly access: (namespace: string, as: Identity, signal: AbortSignal) => Promise<Access>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly wake: (key: StageSetKey) => void;
  /** For `stageset_metric_source_errors_total`: once per query that gave no usable number. */
  readonly failed: (key: StageSetKey) => void;
}

/** No loop is hotter than this, whatever an interval says (spec 40 §11). */
const leastAgeMs = 1_000;
/** Questions remembered per StageSet: far more than a spec can ask; names that are not used any more go first. */
const mostQuestions = 5_000;

interface Slot {
  readonly asked: string;
  reading: MetricReading | undefined;
  asking: AbortController | undefined;
}

export function createMetricReadings(options: MetricReadingsOptions): MetricReadings {
  const { clock } = options;
  const keys = new Map<string, Map<string, Slot>>();

  const slotOf = (key: StageSetKey, { name, source, as }: MetricQuestion): Slot => {
    const slots = keys.get(nameOf(key)) ?? new Map<string, Slot>();
    keys.set(nameOf(key), slots);
    const asked = JSON.stringify([source, as]);
    const known = slots.get(name);
    if (known?.asked === asked) return known;
    drop(slots, name);
    const [oldest] = slots.keys();
    if (slots.size >= mostQuestions && oldest !== undefined) drop(slots, oldest);
    const fresh: Slot = { asked, reading: undefined, asking: undefined };
    slots.set(name, fresh);
    return fresh;
  };
  const ask = async (key: StageSetKey, slot: Slot, question: MetricQuestion): Promise<void> => {
    const abort = new AbortController();
    slot.asking = abort;
    const { signal } = abort;
    let answer: MetricAnswer;
    try {
      const access = (aborted: AbortSignal): Promise<Access> => options.access(key.namespace, question.as, aborted);
      answer = await options.read(question.source, { owner: { ...key, access }, signal });
    } catch (error) {
      if (signal.aborted) return;
      options.logger.error("a metric query failed for an unexpected reason", { ...key, error });
      answer = sourceError("the query failed for an unexpected reason, which the controller's log tells");
    }
    if (signal.aborted) return;
    slot.asking = undefined;
    slot.reading = { answer, readAt: clock.monotonic() };
    if (answer.kind === "sourceError") options.failed(key);
    options.wake(key);
  };
  return {
    latest(key, question) {
      const slot = slotOf(key, question);
      const { reading } = slot;
      const maxAgeMs = Math.max(leastAgeMs, question.maxAgeMs);
      if (reading !== undefined && clock.monotonic() - reading.readAt < maxAgeMs) return reading;
      // It never rejects.
      if (slot.asking === undefined) ask(key, slot, question).catch(() => undefined);
      return undefined;
    },
    release(key) {
      const slots = keys.get(nameOf(key));
      keys.delete(nameOf(key));
      for (const name of slots?.keys() ?? []) if (slots !== undefined) drop(slots, name);
    },
    [Symbol.dispose]() {
      for (const slots of keys.values()) for (const name of slots.keys()) drop(slots, name);
      keys.clear();
    },
  };
}

function drop(slots: Map<string, Slot>, name: string): void {
  slots.get(name)?.asking?.abort(new Error("nobody asks this any more"));
  slots.delete(name);
}

function nameOf({ namespace, name }: StageSetKey): string {
  return `${namespace}/${name}`;
}
