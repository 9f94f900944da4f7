/**
 * Whether the whole text matches an image glob: `*` is any run without `/`, `**` any run, `?` one character but `/`.
 * Takes at most time proportional to the product of both lengths.
 */
export function matchesGlob(glob: string, text: string): boolean {
  const tokens = glob.match(/\*\*+|[^]/gu) ?? [];
  let reached = closed(tokens, new Set([0]));
  for (const character of text) {
    const next = new Set<number>();
    for (const state of reached) {
      const token = tokens[state];
      if (token === undefined) continue;
      if (token.startsWith("*")) {
        if (token.length > 1 || character !== "/") next.add(state);
      } else if (token === "?" ? character !== "/" : token === character) next.add(state + 1);
    }
    if (next.size === 0) return false;
    reached = closed(tokens, next);
  }
  return reached.has(tokens.length);
}

/** Adds what follows a star, which may be empty. */
function closed(tokens: readonly string[], states: ReadonlySet<number>): ReadonlySet<number> {
  const all = new Set<number>();
  for (const state of states) {
    let at = state;
    all.add(at);
    while (tokens[at]?.startsWith("*") === true) all.add(++at);
  }
  return all;
}
