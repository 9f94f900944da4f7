import type { ServerResponse } from "node:http";
import type { Clock } from "../lib/clock.ts";

/** What answers of one listener that clients do not take may cost. */
export interface SlowReaderBounds {
  /** An answer that is not taken whole by then ends with its connection. */
  readonly takenWithinMs: number;
  /** Text of all answers that is not taken yet; what comes beyond is told to come again. */
  readonly unsentBytes: number;
}

/** Small answers are always sent: connections are bounded, and a refusal would be no smaller. */
const smallBytes = 4 * 1024;

export interface UnsentAnswers {
  /** False: there is no room for a text of so many bytes, and the answer must be a small one. */
  admit(outgoing: ServerResponse, bytes: number): boolean;
  /** To be called after `end()`. */
  watch(outgoing: ServerResponse): void;
}

/** Counts answers from their end until the kernel has taken them, or the client is gone. */
export function boundUnsent({ takenWithinMs, unsentBytes }: SlowReaderBounds, clock: Clock): UnsentAnswers {
  let held = 0;
  return {
    admit(outgoing, bytes) {
      if (bytes <= smallBytes) return true;
      // One is always sent, however large.
      if (held > 0 && held + bytes > unsentBytes) return false;
      held += bytes;
      outgoing.once("close", () => (held -= bytes));
      return true;
    },
    watch(outgoing) {
      const giveUp = clock.timer(takenWithinMs, () => outgoing.destroy());
      outgoing.once("close", () => giveUp[Symbol.dispose]());
    },
  };
}
