/** What `--allowed-action-hosts` lets pass; undefined: it is empty, and every host passes (spec 50 §5). */
export function hostAllowance(globs: readonly string[]): ((host: string) => boolean) | undefined {
  return globs.length === 0 ? undefined : (host) => globs.some((glob) => matchesHostGlob(glob, host));
}

/** Whether a text is a glob of hosts at all: one with an open bracket matches nothing. */
export function isHostGlob(glob: string): boolean {
  return glob !== "" && tokensOf(glob) !== undefined;
}

/**
 * Whether a host matches a glob of `--allowed-action-hosts`: `*` is any run (dots included), `?` one character, `[a-z]`
 * one of a set and `[^a-z]` one outside it; letters in any case. Takes at most time proportional to both lengths'
 * product. A glob with an open bracket matches nothing.
 */
export function matchesHostGlob(glob: string, host: string): boolean {
  const tokens = tokensOf(glob.toLowerCase());
  if (tokens === undefined) return false;
  let reached = closed(tokens, [0]);
  for (const character of host.toLowerCase()) {
    const next: number[] = [];
    for (const state of reached) {
      const token = tokens[state];
      if (token === undefined) continue;
      if (token === "any") next.push(state);
      else if (token(character)) next.push(state + 1);
    }
    reached = closed(tokens, next);
  }
  return reached.has(tokens.length);
}

type Token = "any" | ((character: string) => boolean);

function tokensOf(glob: string): readonly Token[] | undefined {
  const tokens: Token[] = [];
  for (const [part] of glob.matchAll(/\[\^?\]?[^\]]*\]|[^]/gu)) {
    if (part === "*") tokens.push("any");
    else if (part === "?") tokens.push(() => true);
    else if (part === "[") return undefined;
    else if (part.startsWith("[")) tokens.push(setOf(part));
    else tokens.push((character) => character === part);
  }
  return tokens;
}

function setOf(part: string): (character: string) => boolean {
  const negated = part.startsWith("[^");
  const ranges = [...part.slice(negated ? 2 : 1, -1).matchAll(/([^])(?:-([^]))?/gu)].map(
    ([, from = "", to = from]) => [from, to] as const,
  );
  return (character) => ranges.some(([from, to]) => character >= from && character <= to) !== negated;
}

/** Adds what follows a star, which may be empty. */
function closed(tokens: readonly Token[], states: readonly number[]): ReadonlySet<number> {
  const all = new Set<number>();
  for (const state of states) {
    let at = state;
    all.add(at);
    while (tokens[at] === "any") all.add(++at);
  }
  return all;
}
