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
