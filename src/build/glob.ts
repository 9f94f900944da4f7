/** One part of a glob: any run of characters, or one character that the test takes. */
type GlobPart = "run" | ((char: string) => boolean);

/** Why a pattern is none. */
export class GlobProblem extends Error {
  override name = "GlobProblem";
}

/** `*` any run, `?` any character, `[a-z]`, `[^a]`, `\c` the character itself. */
export type Glob = readonly GlobPart[];

/** @throws {GlobProblem} */
export function parseGlob(pattern: string): Glob {
  const chars = Array.from(pattern);
  const parts: GlobPart[] = [];
  for (let index = 0; index < chars.length; index++) {
    const char = chars[index];
    if (char === "*") {
      if (parts.at(-1) !== "run") parts.push("run");
    } else if (char === "?") parts.push(() => true);
    else if (char === "[") {
      const end = classEnd(chars, index);
      parts.push(parseClass(chars.slice(index + 1, end)));
      index = end;
    } else {
      const literal = char === "\\" ? chars[++index] : char;
      if (literal === undefined) throw new GlobProblem("nothing follows the last backslash");
      parts.push((candidate) => candidate === literal);
    }
  }
  return parts;
}

function classEnd(chars: readonly string[], start: number): number {
  for (let index = start + 1; index < chars.length; index++) {
    if (chars[index] === "\\") index++;
    else if (chars[index] === "]") return index;
  }
  throw new GlobProblem(`"[" without "]"`);
}

function parseClass(written: readonly string[]): (char: string) => boolean {
  const negated = written[0] === "^";
  let rest: readonly string[] = negated ? written.slice(1) : written;
  if (rest.length === 0) throw new GlobProblem("an empty class");
  const ranges: (readonly [low: number, high: number])[] = [];
  const take = (): number => {
    const escaped = rest[0] === "\\";
    const char = rest[escaped ? 1 : 0]?.codePointAt(0);
    rest = rest.slice(escaped ? 2 : 1);
    if (char === undefined) throw new GlobProblem("an unfinished class");
    return char;
  };
  while (rest.length > 0) {
    const low = take();
    if (rest[0] !== "-") {
      ranges.push([low, low]);
      continue;
    }
    rest = rest.slice(1);
    ranges.push([low, take()]);
  }
  return (char) => {
    const code = char.codePointAt(0) ?? 0;
    return ranges.some(([low, high]) => low <= code && code <= high) !== negated;
  };
}

/**
 * The text without its shortest or longest beginning, or end, that matches; as it is when none does. Takes time
 * proportional to text times pattern.
 */
export function trimGlob(
  text: string,
  glob: Glob,
  { at, run }: { readonly at: "start" | "end"; readonly run: "shortest" | "longest" },
): string {
  const chars = Array.from(text);
  if (at === "start") return chars.slice(matchedLength(chars, glob, run)).join("");
  const length = matchedLength(chars.toReversed(), glob.toReversed(), run);
  return chars.slice(0, chars.length - length).join("");
}

/** How many characters at the start match, 0 when none do: all ways to match are followed at once. */
function matchedLength(chars: readonly string[], glob: Glob, run: "shortest" | "longest"): number {
  let found = 0;
  let positions = withRuns(glob, new Set([0]));
  for (const [index, char] of chars.entries()) {
    if (positions.has(glob.length)) {
      found = index;
      if (run === "shortest") return found;
    }
    const next = new Set<number>();
    for (const position of positions) {
      const part = glob[position];
      if (part === "run") next.add(position);
      else if (part?.(char) === true) next.add(position + 1);
    }
    if (next.size === 0) return found;
    positions = withRuns(glob, next);
  }
  return positions.has(glob.length) ? chars.length : found;
}

/** A run may be empty, so whoever stands before it also stands after it. */
function withRuns(glob: Glob, positions: ReadonlySet<number>): ReadonlySet<number> {
  const all = new Set(positions);
  for (const position of positions) if (glob[position] === "run") all.add(position + 1);
  return all;
}
