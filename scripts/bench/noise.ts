/** Printable text that hardly compresses, the same for a seed. */
export function noise(bytes: number, seed: number): string {
  const text = Buffer.alloc(bytes);
  let state = (seed * 7_919 + 1) % 2_147_483_647;
  for (let index = 0; index < bytes; index++) {
    state = (state * 48_271) % 2_147_483_647;
    // Neither quotes nor backslashes, which JSON would make longer.
    text[index] = 97 + (state % 26);
  }
  return text.toString("latin1");
}
