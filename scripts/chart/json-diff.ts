import { deepEqual } from "../../src/lib/equal.ts";
import { asObject } from "../../src/lib/json.ts";

/** An operation of RFC 6902. */
export interface JsonOperation {
  readonly op: "add" | "remove" | "replace";
  readonly path: string;
  readonly value?: unknown;
}

/**
 * Operations that make `to` of `from`. They touch no more than what differs, so that patches of different places can be
 * applied to one object together.
 */
export function diffJson(from: unknown, to: unknown, path = ""): readonly JsonOperation[] {
  if (deepEqual(from, to)) return [];
  if (Array.isArray(from) && Array.isArray(to)) return diffLists(from, to, path);
  const [left, right] = [asObject(from), asObject(to)];
  if (left === undefined || right === undefined) return [{ op: "replace", path, value: to }];
  const operations: JsonOperation[] = [];
  for (const key of new Set([...Object.keys(left), ...Object.keys(right)])) {
    const inner = `${path}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`;
    if (!(key in right)) operations.push({ op: "remove", path: inner });
    else if (!(key in left)) operations.push({ op: "add", path: inner, value: right[key] });
    else operations.push(...diffJson(left[key], right[key], inner));
  }
  return operations;
}

/** Lists of one length item by item; else what is between their common beginning and their common end is replaced. */
function diffLists(from: readonly unknown[], to: readonly unknown[], path: string): readonly JsonOperation[] {
  if (from.length === to.length) return from.flatMap((item, index) => diffJson(item, to[index], `${path}/${index}`));
  let start = 0;
  while (start < Math.min(from.length, to.length) && deepEqual(from[start], to[start])) start++;
  let end = 0;
  while (end < Math.min(from.length, to.length) - start && deepEqual(from.at(-1 - end), to.at(-1 - end))) end++;
  const operations: JsonOperation[] = [];
  for (let index = from.length - end - 1; index >= start; index--)
    operations.push({ op: "remove", path: `${path}/${index}` });
  for (let index = start; index < to.length - end; index++)
    operations.push({ op: "add", path: `${path}/${index}`, value: to[index] });
  return operations;
}
