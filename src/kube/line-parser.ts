import { KubeError } from "./error.ts";

/** The largest value a stream may carry; an object in etcd is far smaller. */
const maxLineBytes = 64 * 1024 * 1024;

/** Cuts a byte stream into lines of JSON, across chunk borders. */
export interface LineParser {
  /** @throws {KubeError} `Other`, when a line is no JSON or too long */
  push(chunk: Uint8Array): readonly unknown[];
  /** Bytes of a line that has not ended. */
  readonly pending: number;
}

export function createLineParser(): LineParser {
  let parts: Uint8Array[] = [];
  let pending = 0;
  return {
    get pending() {
      return pending;
    },
    push(chunk) {
      const values: unknown[] = [];
      let start = 0;
      for (;;) {
        const end = chunk.indexOf(0x0a, start);
        const piece = chunk.subarray(start, end < 0 ? undefined : end);
        if (piece.length > 0) parts.push(piece);
        pending += piece.length;
        if (pending > maxLineBytes)
          throw new KubeError({ reason: "Other", message: "Cannot read the stream: a line is too long" });
        if (end < 0) return values;
        if (pending > 0) values.push(parseLine(parts));
        parts = [];
        pending = 0;
        start = end + 1;
      }
    },
  };
}

function parseLine(parts: readonly Uint8Array[]): unknown {
  const text = Buffer.concat(parts).toString("utf8");
  try {
    return JSON.parse(text) as unknown;
  } catch {
    // The parser's own message quotes the input, which may be a Secret.
    throw new KubeError({ reason: "Other", message: "Cannot read the stream: a line is no JSON" });
  }
}
