/** Structured fields of a log record. Errors go under `error`; never a Secret's value, a token or a body (spec 50 §11). */
export type LogFields = Readonly<Record<string, unknown>>;

/** One record per call; the messages of spec 60 §8 are stable. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger that adds `fields` to each of its records. */
  with(fields: LogFields): Logger;
}

export const silentLogger: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  with: () => silentLogger,
};

/** Label values by label name; only bounded sets of values (spec 60 §6 c). */
export type MetricLabels = Readonly<Record<string, string>>;

export interface Counter {
  add(labels: MetricLabels, by?: number): void;
  /** Drops every series whose labels include all of these. */
  remove(labels: MetricLabels): void;
}
export interface Gauge {
  set(labels: MetricLabels, value: number): void;
  remove(labels: MetricLabels): void;
}
export interface Histogram {
  observe(labels: MetricLabels, value: number): void;
}

export type SpanAttributes = Readonly<Record<string, string | number | boolean>>;

/** A timed piece of work in a trace. No attribute carries content of a manifest or a Secret (spec 60 §9). */
export interface Span {
  /** Undefined unless the trace is kept. */
  readonly traceId: string | undefined;
  /** A part of this work. */
  start(name: string, attributes?: SpanAttributes): Span;
  set(attributes: SpanAttributes): void;
  /** Status ERROR and what went wrong. */
  fail(message: string): void;
  end(): void;
  /** Requests to API servers made by `work` name this span. */
  run<T>(work: () => Promise<T>): Promise<T>;
}

/** Where nobody looks at traces. */
export const noSpan: Span = {
  traceId: undefined,
  start: () => noSpan,
  set() {},
  fail() {},
  end() {},
  run: (work) => work(),
};

/** Does `work` as the span's, and ends it; an error fails the span and goes on. */
export async function traced<T>(span: Span, work: (span: Span) => Promise<T>): Promise<T> {
  try {
    return await span.run(() => work(span));
  } catch (error) {
    span.fail(error instanceof Error ? error.message : String(error));
    throw error;
  } finally {
    span.end();
  }
}
