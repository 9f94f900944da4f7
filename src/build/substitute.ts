import { GlobProblem, parseGlob, trimGlob } from "./glob.ts";
import {
  ExpressionProblem,
  parseTemplate,
  type Expression,
  type Form,
  type Template,
} from "./substitution-template.ts";

/** Largest text of one object after substitution, in characters. */
const largestResult = 16 * 1024 * 1024;

/** Values by name; names no expression can spell and line ends inside values are left out. */
export function usableValues(values: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const usable = new Map<string, string>();
  for (const [name, value] of values)
    if (/^[_A-Za-z][_A-Za-z0-9]*$/.test(name)) usable.set(name, value.replace(/[\r\n]/g, ""));
  return usable;
}

/**
 * The text with every expression replaced (spec 20 §5.3). What an expression gives is not looked at again.
 *
 * @throws {ExpressionProblem}
 */
export function substitute(text: string, values: ReadonlyMap<string, string>): string {
  return new Evaluation(values).text(parseTemplate(text));
}

class Evaluation {
  readonly #values: ReadonlyMap<string, string>;
  #length = 0;

  constructor(values: ReadonlyMap<string, string>) {
    this.#values = values;
  }

  text(template: Template): string {
    let result = "";
    for (const part of template) {
      const piece = typeof part === "string" ? part : this.#expression(part);
      this.#length += piece.length;
      if (this.#length > largestResult) throw new ExpressionProblem("too much text", "$", "$");
      result += piece;
    }
    return result;
  }

  #expression(expression: Expression): string {
    const { name, form } = expression;
    const value = this.#values.get(name);
    if (form.kind === "default") return value === undefined || value === "" ? this.text(form.otherwise) : value;
    if (value === undefined) throw problem(expression, `"${name}" is not set`);
    try {
      return this.#apply(form, value, expression);
    } catch (error) {
      if (error instanceof GlobProblem) throw problem(expression, `its pattern has ${error.message}`);
      throw error;
    }
  }

  #apply(form: Exclude<Form, { kind: "default" }>, value: string, expression: Expression): string {
    switch (form.kind) {
      case "value":
        return value;
      case "length":
        return String(Buffer.byteLength(value, "utf8"));
      case "case":
        return changeCase(value, form);
      case "substring": {
        const [from, count] = [this.text(form.from), form.count === undefined ? undefined : this.text(form.count)];
        return substring(value, { from, count, expression });
      }
      case "replace":
        return replace(value, form.where, { pattern: this.text(form.pattern), by: this.text(form.by) });
      case "trim":
        return trimGlob(value, parseGlob(this.#globText(form.pattern)), form);
    }
  }

  /** What a nested expression gives stands for itself in a pattern. */
  #globText(template: Template): string {
    return template
      .map((part) => (typeof part === "string" ? part : this.#expression(part).replace(/[\\*?[\]]/g, "\\$&")))
      .join("");
  }
}

function changeCase(value: string, { to, all }: Extract<Form, { kind: "case" }>): string {
  const [first = "", ...rest] = value;
  const change = (char: string): string => {
    const changed = to === "upper" ? char.toUpperCase() : char.toLowerCase();
    // One character for one: "ß" has no capital of its own.
    return Array.from(changed).length === 1 ? changed : char;
  };
  return change(first) + (all ? rest.map(change) : rest).join("");
}

function substring(
  value: string,
  {
    from,
    count,
    expression,
  }: { readonly from: string; readonly count: string | undefined; readonly expression: Expression },
): string {
  const start = parseInteger(from);
  const length = count === undefined ? Number.MAX_SAFE_INTEGER : parseInteger(count);
  if (start === undefined || length === undefined) return value;
  if (length < 0) throw problem(expression, "its length is negative");
  if (start < 0) throw problem(expression, "its offset is negative");
  const cut = Buffer.from(value, "utf8").subarray(start).subarray(0, length);
  return wholeCharacters(cut, expression);
}

function wholeCharacters(cut: Buffer, expression: Expression): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(cut);
  } catch {
    throw problem(expression, "it cuts a character");
  }
}

function parseInteger(text: string): number | undefined {
  if (!/^[-+]?[0-9]+$/.test(text)) return undefined;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}

function replace(
  value: string,
  where: Extract<Form, { kind: "replace" }>["where"],
  { pattern, by }: { readonly pattern: string; readonly by: string },
): string {
  switch (where) {
    case "first":
      return value.replace(pattern, () => by);
    case "all":
      return value.replaceAll(pattern, () => by);
    case "prefix":
      return value.startsWith(pattern) ? by + value.slice(pattern.length) : value;
    case "suffix":
      return value.endsWith(pattern) ? value.slice(0, value.length - pattern.length) + by : value;
  }
}

function problem({ source, brief }: Expression, why: string): ExpressionProblem {
  return new ExpressionProblem(why, source, brief);
}
