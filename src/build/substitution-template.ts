/** Text with expressions in it. */
export type Template = readonly (string | Expression)[];

/** One `${…}`. */
export interface Expression {
  readonly name: string;
  readonly form: Form;
  /** As written. */
  readonly source: string;
  /** Without what may be a value: name and operator only. */
  readonly brief: string;
}

/** What an expression does with its variable (spec 20 §5.3). */
export type Form =
  | { readonly kind: "value" | "length" }
  | { readonly kind: "default"; readonly otherwise: Template }
  | { readonly kind: "case"; readonly to: "upper" | "lower"; readonly all: boolean }
  | { readonly kind: "substring"; readonly from: Template; readonly count: Template | undefined }
  | {
      readonly kind: "replace";
      readonly where: "first" | "all" | "prefix" | "suffix";
      readonly pattern: Template;
      readonly by: Template;
    }
  | {
      readonly kind: "trim";
      readonly at: "start" | "end";
      readonly run: "shortest" | "longest";
      readonly pattern: Template;
    };

/** Why a text cannot be substituted; never tells a value. */
export class ExpressionProblem extends Error {
  override name = "ExpressionProblem";
  /** The expression as written; `brief`: its name and operator, for texts that may be secret. */
  readonly expression: string;
  readonly brief: string;
  constructor(why: string, expression: string, brief: string) {
    super(why);
    this.expression = expression;
    this.brief = brief;
  }
}

/** Expressions inside expressions inside expressions. */
const deepest = 100;

/** @throws {ExpressionProblem} for anything after `${` that is none of the forms */
export function parseTemplate(text: string): Template {
  return new Parser(text).template();
}

/** How backslashes are read in an argument: as themselves, before `/` and `\` only, or before anything (kept, for globs). */
type Escapes = "none" | "slash" | "glob";

class Parser {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  template(): Template {
    return this.#parts({ ends: "", escapes: "none" });
  }

  /** Reads up to one of `ends`, which it leaves, or to the end of the text. */
  #parts({ ends, escapes }: { readonly ends: string; readonly escapes: Escapes }): Template {
    const parts: (string | Expression)[] = [];
    let literal = "";
    while (this.#at < this.#text.length) {
      const char = this.#text.charAt(this.#at);
      const next = this.#text.charAt(this.#at + 1);
      if (char === "$" && next === "{") {
        if (literal !== "") parts.push(literal);
        literal = "";
        parts.push(this.#expression());
      } else if (char === "$" && next === "$") {
        literal += "$";
        this.#at += 2;
      } else if (char === "\\" && escapes === "slash" && (next === "/" || next === "\\")) {
        literal += next;
        this.#at += 2;
      } else if (char === "\\" && escapes === "glob" && next !== "") {
        literal += char + next;
        this.#at += 2;
      } else if (ends.includes(char)) break;
      else {
        // Everything up to the next character that may mean something.
        const rest = /^[^$\\/:}]+/.exec(this.#text.slice(this.#at, this.#at + 4_096))?.[0] ?? char;
        literal += rest;
        this.#at += rest.length;
      }
    }
    if (literal !== "") parts.push(literal);
    return parts;
  }

  #expression(): Expression {
    const start = this.#at;
    if (++this.#depth > deepest) throw new ExpressionProblem("nested too deeply", "${", "${");
    this.#at += 2;
    const length = this.#take("#");
    const name = this.#name();
    const afterName = this.#at;
    const fail = (why: string): ExpressionProblem => {
      const end = this.#text.indexOf("}", afterName);
      const brief = this.#text.slice(start, afterName);
      return new ExpressionProblem(why, end < 0 ? brief : this.#text.slice(start, end + 1), brief);
    };
    if (name === "") throw fail("it has no name");
    const form: Form | undefined = length ? { kind: "length" } : this.#form();
    if (form === undefined) throw fail("it is none of the forms");
    const brief = `${this.#text.slice(start, afterName)}${/^[^A-Za-z0-9$}]{0,2}/.exec(this.#text.slice(afterName, this.#at))?.[0] ?? ""}`;
    if (!this.#take("}")) throw fail(this.#at >= this.#text.length ? `it has no "}"` : "it is none of the forms");
    this.#depth--;
    return { name, form, source: this.#text.slice(start, this.#at), brief };
  }

  #form(): Form | undefined {
    if (this.#text.startsWith("}", this.#at) || this.#at >= this.#text.length) return { kind: "value" };
    if (this.#takeDefault()) return { kind: "default", otherwise: this.#parts({ ends: "}", escapes: "none" }) };
    if (this.#take(":")) return this.#substring();
    if (this.#take("/")) return this.#replacement();
    for (const [sign, to] of [
      ["^", "upper"],
      [",", "lower"],
    ] as const) {
      if (this.#take(sign)) return { kind: "case", to, all: this.#take(sign) };
    }
    for (const [sign, at] of [
      ["#", "start"],
      ["%", "end"],
    ] as const) {
      if (!this.#take(sign)) continue;
      const run = this.#take(sign) ? "longest" : "shortest";
      return { kind: "trim", at, run, pattern: this.#parts({ ends: "}", escapes: "glob" }) };
    }
    return undefined;
  }

  #takeDefault(): boolean {
    return [":-", ":=", ":?", ":+", "="].some((operator) => this.#take(operator));
  }

  #substring(): Form {
    const from = this.#parts({ ends: ":}", escapes: "none" });
    const count = this.#take(":") ? this.#parts({ ends: "}", escapes: "none" }) : undefined;
    return { kind: "substring", from, count };
  }

  #replacement(): Form | undefined {
    const where = this.#take("/") ? "all" : this.#take("#") ? "prefix" : this.#take("%") ? "suffix" : "first";
    const pattern = this.#parts({ ends: "/}", escapes: "slash" });
    if (!this.#take("/")) return undefined;
    return { kind: "replace", where, pattern, by: this.#parts({ ends: "}", escapes: "slash" }) };
  }

  #name(): string {
    const name = /^[A-Za-z0-9_]*/.exec(this.#text.slice(this.#at, this.#at + 1_000))?.[0] ?? "";
    this.#at += name.length;
    return name;
  }

  #take(expected: string): boolean {
    if (!this.#text.startsWith(expected, this.#at)) return false;
    this.#at += expected.length;
    return true;
  }
}
