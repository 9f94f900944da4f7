import type { Clock } from "../lib/clock.ts";

/** What a command reads and writes besides its arguments. */
export interface CommandIo {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Of the terminal that standard output is; undefined: it is none. */
  readonly columns?: number | undefined;
  out(text: string): void;
  error(text: string): void;
}

/** Exit codes of spec 70 §3. */
export const exitCodes = { done: 0, finding: 1, usage: 2, failed: 3 } as const;

/** A command that could not be done: its message goes to stderr, the exit code is 3. */
export class CommandFailed extends Error {
  override name = "CommandFailed";
}

/** A command line that is wrong; found before anything is contacted. Exit code 2. */
export class UsageError extends Error {
  override name = "UsageError";
}
