import { asArray, asObject } from "../../lib/json.ts";
import { parseDecimal } from "./decimal.ts";
import type { Filter, FilterOperator, JsonPath, Operand, PathStep, Slice } from "./json-path.ts";

/** Bound of the values one expression looks at (spec 40 §11); wildcards and `..` multiply. */
const mostVisits = 10_000;

/** Why a path gives nothing usable. */
export interface Unselected {
  readonly kind: "unselected";
  /** As in `field "a" is not found`. */
  readonly problem: string;
}

/** Thrown and caught within this file. */
class NotSelectable extends Error {}

/** What each expression selects, in order. A step that no selected value has is an error, as with kubectl. */
export function selectValues(
  path: JsonPath,
  root: unknown,
): { readonly kind: "selected"; readonly parts: readonly (string | readonly unknown[])[] } | Unselected {
  return guarded(() => {
    const selection = new Selection(root);
    const parts = path.parts.map((part) => (typeof part === "string" ? part : selection.follow(part, [root])));
    return { kind: "selected" as const, parts };
  });
}

/** The template as text; every expression must select exactly one value that is not null. */
export function selectText(
  path: JsonPath,
  root: unknown,
): { readonly kind: "text"; readonly text: string } | Unselected {
  const selected = selectValues(path, root);
  if (selected.kind === "unselected") return selected;
  return guarded(() => {
    const texts = selected.parts.map((part) => (typeof part === "string" ? part : textOf(onlyOne(part))));
    return { kind: "text" as const, text: texts.join("") };
  });
}

/** The one number, or the one text that is a decimal number, the path selects. */
export function selectNumber(
  path: JsonPath,
  root: unknown,
): { readonly kind: "number"; readonly value: number } | Unselected {
  const selected = selectValues(path, root);
  if (selected.kind === "unselected") return selected;
  return guarded(() => {
    const [part, ...others] = selected.parts;
    if (part === undefined || typeof part === "string" || others.length > 0)
      throw new NotSelectable("it is more than one expression");
    const found = onlyOne(part);
    const value = typeof found === "string" ? parseDecimal(found) : found;
    if (typeof value !== "number" || !Number.isFinite(value)) throw new NotSelectable("the value is no number");
    return { kind: "number" as const, value };
  });
}

function guarded<T>(select: () => T): T | Unselected {
  try {
    return select();
  } catch (error) {
    if (error instanceof NotSelectable) return { kind: "unselected", problem: error.message };
    throw error;
  }
}

function onlyOne(values: readonly unknown[]): unknown {
  if (values.length !== 1) throw new NotSelectable(`${values.length} values are selected, want one`);
  return values[0];
}

function textOf(value: unknown): string {
  if (value === null || value === undefined) throw new NotSelectable("the value is null");
  return typeof value === "string" ? value : JSON.stringify(value);
}

class Selection {
  readonly #root: unknown;
  #visits = 0;

  constructor(root: unknown) {
    this.#root = root;
  }

  follow(steps: readonly PathStep[], from: readonly unknown[]): readonly unknown[] {
    let values = from;
    for (const step of steps) {
      this.#visit(values.length);
      values = this.#step(step, values);
    }
    return values;
  }

  #visit(count: number): void {
    this.#visits += count;
    if (this.#visits > mostVisits) throw new NotSelectable("it selects too many values");
  }

  #counted(values: readonly unknown[]): readonly unknown[] {
    this.#visit(values.length);
    return values;
  }

  #step(step: PathStep, values: readonly unknown[]): readonly unknown[] {
    switch (step.kind) {
      case "field":
        return fieldOf(step.name, values);
      case "wildcard":
        return values.flatMap((value) => this.#counted(childrenOf(value)));
      case "descend":
        return this.#descendants(values);
      case "slice":
        return values.flatMap((value) => this.#counted(sliceOf(step.slice, value)));
      case "union":
        return step.branches.flatMap((branch) => this.follow(branch, values));
      case "filter":
        return values.flatMap((value) => this.#filtered(step.filter, value));
    }
  }

  /** The values themselves and everything in them, parents first. */
  #descendants(values: readonly unknown[]): readonly unknown[] {
    const found: unknown[] = [];
    const open = [...values].reverse();
    while (open.length > 0) {
      const value = open.pop();
      this.#visit(1);
      found.push(value);
      open.push(...[...childrenOf(value)].reverse());
    }
    return found;
  }

  #filtered(filter: Filter, list: unknown): readonly unknown[] {
    if (!Array.isArray(list)) throw new NotSelectable("a filter is applied to something that is no list");
    return asArray(list).filter((item) => this.#passes(filter, item));
  }

  #passes({ left, comparison }: Filter, item: unknown): boolean {
    const lefts = this.#operand(left, item);
    if (comparison === undefined) return lefts.length > 0;
    const rights = this.#operand(comparison.right, item);
    if (lefts.length === 0 || rights.length === 0) return false;
    return compares(onlyOne(lefts), comparison.operator, onlyOne(rights));
  }

  /** An item that lacks a field does not match; that is no error. */
  #operand(operand: Operand, item: unknown): readonly unknown[] {
    if (operand.kind === "literal") return [operand.value];
    try {
      return this.follow(operand.steps, [operand.from === "root" ? this.#root : item]);
    } catch (error) {
      if (error instanceof NotSelectable && this.#visits <= mostVisits) return [];
      throw error;
    }
  }
}

function fieldOf(name: string, values: readonly unknown[]): readonly unknown[] {
  if (values.length === 0) return [];
  const found = values.flatMap((value) => {
    const object = asObject(value);
    return object !== undefined && Object.hasOwn(object, name) ? [object[name]] : [];
  });
  if (found.length === 0) throw new NotSelectable(`field ${JSON.stringify(name.slice(0, 100))} is not found`);
  return found;
}

function childrenOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? asArray(value) : Object.values(asObject(value) ?? {});
}

function sliceOf({ from = 0, to, step }: Slice, value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw new NotSelectable("an index is applied to something that is no list");
  const list = asArray(value);
  const start = from < 0 ? from + list.length : from;
  const wanted = to === "next" ? start + 1 : (to ?? list.length);
  const end = wanted < 0 ? wanted + list.length : wanted;
  if (start === end) return [];
  if (start < 0 || start >= list.length || end < 0 || end > list.length || start > end)
    throw new NotSelectable(`index ${from} is out of the bounds of a list of ${list.length}`);
  return list.slice(start, end).filter((_item, index) => index % step === 0);
}

function compares(left: unknown, operator: FilterOperator, right: unknown): boolean {
  if (operator === "==") return left === right;
  if (operator === "!=") return left !== right;
  const ordered =
    (typeof left === "number" && typeof right === "number") || (typeof left === "string" && typeof right === "string");
  if (!ordered) return false;
  switch (operator) {
    case "<":
      return left < right;
    case "<=":
      return left <= right;
    case ">":
      return left > right;
    case ">=":
      return left >= right;
  }
}
