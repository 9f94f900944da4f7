/** Chunks of one byte each would cost a hundred times what they hold: so many are joined to one. */
const mostLoosePieces = 1024;

/** Bytes that come in pieces of any size, held in little more than they are. */
export interface Pieces {
  readonly bytes: number;
  add(piece: Uint8Array): void;
  /** UTF-8. Starts over. */
  take(): string;
}

export function createPieces(): Pieces {
  let joined: Uint8Array[] = [];
  let loose: Uint8Array[] = [];
  let bytes = 0;
  return {
    get bytes() {
      return bytes;
    },
    add(piece) {
      if (piece.length === 0) return;
      bytes += piece.length;
      if (loose.push(piece) < mostLoosePieces) return;
      joined.push(Buffer.concat(loose));
      loose = [];
    },
    take() {
      const text = Buffer.concat([...joined, ...loose]).toString("utf8");
      joined = [];
      loose = [];
      bytes = 0;
      return text;
    },
  };
}

/**
 * Reads a body to its end, or until there is more of it than `maxBytes`: the rest is not read then, and its stream
 * destroyed.
 *
 * @throws the error of the stream
 */
export async function readBody(
  body: AsyncIterable<unknown>,
  maxBytes: number,
): Promise<{ readonly text: string; readonly isWhole: boolean }> {
  const pieces = createPieces();
  // Leaving the loop destroys the stream.
  for await (const chunk of body) {
    if (!(chunk instanceof Uint8Array)) continue;
    if (pieces.bytes + chunk.length > maxBytes) return { text: pieces.take(), isWhole: false };
    pieces.add(chunk);
  }
  return { text: pieces.take(), isWhole: true };
}
