/** One step of an expression, applied to every value selected so far. */
export type PathStep =
  | { readonly kind: "field"; readonly name: string }
  | { readonly kind: "wildcard" }
  | { readonly kind: "descend" }
  | { readonly kind: "slice"; readonly slice: Slice }
  | { readonly kind: "union"; readonly branches: readonly (readonly PathStep[])[] }
  | { readonly kind: "filter"; readonly filter: Filter };

/** `[from:to:step]`; `[i]` is `to: "next"`. Negative bounds count from the end. */
export interface Slice {
  readonly from: number | undefined;
  readonly to: number | "next" | undefined;
  readonly step: number;
}

export type FilterOperator = "==" | "!=" | "<" | "<=" | ">" | ">=";

/** `[?(left operator right)]`, or without operator: what `left` selects exists. */
export interface Filter {
  readonly left: Operand;
  readonly comparison?: { readonly operator: FilterOperator; readonly right: Operand };
}

export type Operand =
  | { readonly kind: "path"; readonly from: "item" | "root"; readonly steps: readonly PathStep[] }
  | { readonly kind: "literal"; readonly value: string | number | boolean };

/** A kubectl JSONPath template: literal text and expressions, in order; at least one expression. */
export interface JsonPath {
  readonly parts: readonly (string | readonly PathStep[])[];
}

export type ParsedJsonPath =
  { readonly kind: "path"; readonly path: JsonPath } | { readonly kind: "malformed"; readonly problem: string };

const longestPath = 4_096;
const deepestFilter = 5;

/** Thrown and caught within this file. */
class Malformed extends Error {}

/** Reads a template of at most 4,096 characters; one that starts with `.` or `$` needs no braces. */
export function parseJsonPath(text: string): ParsedJsonPath {
  if (text.length > longestPath) return { kind: "malformed", problem: `it is longer than ${longestPath} characters` };
  const template = /^[.$]/.test(text) ? `{${text}}` : text;
  try {
    const parts = new PathReader(template).template();
    if (parts.every((part) => typeof part === "string"))
      return { kind: "malformed", problem: "it has no expression, such as {.metadata.name}" };
    return { kind: "path", path: { parts } };
  } catch (error) {
    if (error instanceof Malformed) return { kind: "malformed", problem: error.message };
    throw error;
  }
}

class PathReader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  template(): readonly (string | readonly PathStep[])[] {
    const parts: (string | readonly PathStep[])[] = [];
    while (this.#at < this.#text.length) {
      const literal = this.#take(/[^{]+/y);
      if (literal !== undefined) parts.push(literal[0]);
      if (this.#at >= this.#text.length) break;
      this.#expect("{");
      this.#take(/[ \t]+/y);
      const quoted = this.#quoted();
      if (quoted !== undefined) parts.push(quoted);
      else if (/[.[$@]/y.test(this.#rest(1))) parts.push(this.#path(0).steps);
      else throw this.#problem("an expression starts with `.`, `[`, `$` or `@`");
      this.#take(/[ \t]+/y);
      this.#expect("}");
    }
    return parts;
  }

  /** `$.a`, `@.a`, `.a` or `[0]`, up to what cannot continue it. */
  #path(depth: number): { readonly from: "item" | "root"; readonly steps: readonly PathStep[] } {
    const start = this.#take(/[$@]/y)?.[0];
    const steps: PathStep[] = [];
    for (;;) {
      const step = this.#step(depth, steps.length === 0 && start === undefined);
      if (step === undefined) return { from: start === "$" ? "root" : "item", steps };
      steps.push(...step);
    }
  }

  #step(depth: number, first: boolean): readonly PathStep[] | undefined {
    if (this.#take(/\.\./y) !== undefined) {
      if (/\[/y.test(this.#rest(1))) return [{ kind: "descend" }];
      return [{ kind: "descend" }, this.#field()];
    }
    if (this.#take(/\./y) !== undefined) {
      if (/\[/y.test(this.#rest(1))) return [];
      if (first && /[ \t})=!<>]|$/y.test(this.#rest(1))) return [];
      return [this.#field()];
    }
    return this.#take(/\[/y) === undefined ? undefined : [this.#bracket(depth)];
  }

  #field(): PathStep {
    const name = this.#take(/(?:\\.|[^\s\\.,[\]$@{}()=!<>'"?])+/y)?.[0];
    if (name === undefined) throw this.#problem("a field name is missing");
    return name === "*" ? { kind: "wildcard" } : { kind: "field", name: name.replaceAll(/\\(.)/g, "$1") };
  }

  #bracket(depth: number): PathStep {
    if (this.#take(/\?\(/y) !== undefined) {
      const filter = this.#filter(depth + 1);
      this.#expect(")");
      this.#expect("]");
      return { kind: "filter", filter };
    }
    const branches: (readonly PathStep[])[] = [];
    do {
      this.#take(/[ \t]+/y);
      branches.push([this.#index()]);
      this.#take(/[ \t]+/y);
    } while (this.#take(/,/y) !== undefined);
    this.#expect("]");
    const only = branches.length === 1 ? branches[0]?.[0] : undefined;
    return only ?? { kind: "union", branches };
  }

  #index(): PathStep {
    const name = this.#take(/'([^']*)'/y)?.[1];
    if (name !== undefined) return { kind: "field", name };
    if (this.#take(/\*/y) !== undefined) return { kind: "wildcard" };
    const range = this.#take(/(-?[0-9]{1,9})?:(-?[0-9]{1,9})?(?::(-?[0-9]{1,9})?)?/y);
    if (range !== undefined) {
      const [, from, to, step = "1"] = range;
      if (Number(step) < 1) throw this.#problem("the step of a slice is at least 1");
      return { kind: "slice", slice: { from: numberOf(from), to: numberOf(to), step: Number(step) } };
    }
    const index = this.#take(/-?[0-9]{1,9}/y)?.[0];
    if (index === undefined) throw this.#problem("brackets hold an index, a slice, `*`, a quoted name or a filter");
    return { kind: "slice", slice: { from: Number(index), to: "next", step: 1 } };
  }

  #filter(depth: number): Filter {
    if (depth > deepestFilter) throw this.#problem(`filters are nested deeper than ${deepestFilter}`);
    const left = this.#operand(depth);
    const operator = this.#take(/==|!=|<=|>=|<|>/y)?.[0];
    if (operator === undefined) return { left };
    // The pattern above lists exactly these.
    return { left, comparison: { operator: operator as FilterOperator, right: this.#operand(depth) } };
  }

  #operand(depth: number): Operand {
    this.#take(/[ \t]+/y);
    const operand = this.#operandItself(depth);
    this.#take(/[ \t]+/y);
    return operand;
  }

  #operandItself(depth: number): Operand {
    const quoted = this.#quoted();
    if (quoted !== undefined) return { kind: "literal", value: quoted };
    const number = this.#take(/[-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?/y)?.[0];
    if (number !== undefined) return { kind: "literal", value: Number(number) };
    const flag = this.#take(/(?:true|false)\b/y)?.[0];
    if (flag !== undefined) return { kind: "literal", value: flag === "true" };
    if (!/[.[$@]/y.test(this.#rest(1)))
      throw this.#problem("a filter compares paths, numbers, quoted texts or booleans");
    return { kind: "path", ...this.#path(depth) };
  }

  #quoted(): string | undefined {
    const match = this.#take(/"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'/y);
    if (match === undefined) return undefined;
    return (match[1] ?? match[2] ?? "").replaceAll(/\\(.)/g, (_all, character: string) =>
      character === "n" ? "\n" : character === "t" ? "\t" : character,
    );
  }

  #take(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match === null) return undefined;
    this.#at = pattern.lastIndex;
    return match;
  }

  #rest(length: number): string {
    return this.#text.slice(this.#at, this.#at + length);
  }

  #expect(character: string): void {
    if (this.#rest(1) !== character) throw this.#problem(`want "${character}"`);
    this.#at += 1;
  }

  #problem(what: string): Malformed {
    const found = this.#rest(20);
    return new Malformed(`${what}, found ${found === "" ? "the end" : JSON.stringify(found)}`);
  }
}

function numberOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Number(text);
}
