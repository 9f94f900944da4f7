import { KubeError } from "./error.ts";
import { createPieces } from "./read-body.ts";

/** The largest value a stream may carry unless told otherwise; an object in etcd is far smaller. */
const defaultMaxLineBytes = 64 * 1024 * 1024;

/** Cuts a byte stream into lines of JSON, across chunk borders. */
export interface LineParser {
  /** @throws {KubeError} `Other`, when a line is no JSON; `TooLarge`, when it is too long */
  push(chunk: Uint8Array): readonly unknown[];
  /** Bytes of a line that has not ended. */
  readonly pending: number;
}

export function createLineParser(maxLineBytes = defaultMaxLineBytes): LineParser {
  const pieces = createPieces();
  return {
    get pending() {
      return pieces.bytes;
    },
    push(chunk) {
      const values: unknown[] = [];
      let start = 0;
      for (;;) {
        const end = chunk.indexOf(0x0a, start);
        const piece = chunk.subarray(start, end < 0 ? undefined : end);
        pieces.add(piece);
        if (pieces.bytes > maxLineBytes)
          throw new KubeError({
            reason: "TooLarge",
            message: `Cannot read the stream: a line is larger than ${Math.floor(maxLineBytes / 1024 / 1024)} MiB`,
          });
        if (end < 0) return values;
        if (pieces.bytes > 0) values.push(parseLine(pieces.take()));
        start = end + 1;
      }
    },
  };
}

function parseLine(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    // The parser's own message quotes the input, which may be a Secret.
    throw new KubeError({ reason: "Other", message: "Cannot read the stream: a line is no JSON" });
  }
}
