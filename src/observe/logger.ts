import { pino, type Logger as PinoLogger } from "pino";
import type { Clock } from "../lib/clock.ts";
import type { LogFields, Logger } from "../lib/telemetry.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";

export interface LoggerOptions {
  readonly level: LogLevel;
  readonly format: "json" | "text";
  readonly clock: Clock;
  /** Takes one record without its line feed. */
  readonly write: (line: string) => void;
}

/** Longest text of one field; longer ones are cut. */
const longestField = 8_192;

/** One record per line, with the keys of spec 60 §8. Errors become their message under `error`, never a stack. */
export function createLogger(options: LoggerOptions): Logger {
  const destination = {
    write: (line: string) => options.write(options.format === "json" ? line.trimEnd() : renderText(line)),
  };
  const root = pino(
    {
      level: options.level,
      base: null,
      messageKey: "msg",
      timestamp: () => `,"time":"${new Date(options.clock.now()).toISOString().replace("Z", "000000Z")}"`,
      formatters: { level: (label) => ({ level: label.toUpperCase() }) },
    },
    destination,
  );
  return wrap(root);
}

type Pino = PinoLogger;

function wrap(logger: Pino): Logger {
  return {
    debug: (message, fields) => logger.isLevelEnabled("debug") && logger.debug(plain(fields), message),
    info: (message, fields) => logger.info(plain(fields), message),
    warn: (message, fields) => logger.warn(plain(fields), message),
    error: (message, fields) => logger.error(plain(fields), message),
    with: (fields) => wrap(logger.child(plain(fields))),
  };
}

/** Only values that cannot carry more than they show: text, numbers, booleans, lists of these, and errors as text. */
function plain(fields: LogFields = {}): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields)) {
    const shown = shownValue(value);
    if (shown !== undefined) result[key] = shown;
  }
  return result;
}

function shownValue(value: unknown): unknown {
  if (value instanceof Error) return cut(value.message);
  switch (typeof value) {
    case "string":
      return cut(value);
    case "number":
    case "boolean":
      return value;
    default:
      return Array.isArray(value) ? value.slice(0, 100).map(shownValue) : undefined;
  }
}

function cut(text: string): string {
  return text.length > longestField ? `${text.slice(0, longestField)}…` : text;
}

/** `key=value` of the same record; values that are not plain words are quoted as JSON. */
function renderText(line: string): string {
  const record: unknown = JSON.parse(line);
  if (typeof record !== "object" || record === null) return line;
  return Object.entries(record)
    .map(([key, value]) => {
      const text = typeof value === "string" ? value : JSON.stringify(value);
      return `${key}=${/^[\w./:@+-]+$/.test(text) ? text : JSON.stringify(text)}`;
    })
    .join(" ");
}
