import { setImmediate } from "node:timers/promises";

/** So many numbers are sorted or moved before others have their turn: some milliseconds with names as keys. */
const turnLength = 2_048;

/** Sorts in place without holding up the event loop: short runs first, which are then merged. */
export async function sortInTurns(items: Uint32Array, compare: (one: number, other: number) => number): Promise<void> {
  for (let at = 0; at < items.length; at += turnLength) {
    items.subarray(at, at + turnLength).sort(compare);
    if (items.length > turnLength) await setImmediate();
  }
  let [from, to]: [Uint32Array, Uint32Array] = [items, new Uint32Array(items.length > turnLength ? items.length : 0)];
  for (let length = turnLength; length < items.length; length *= 2) {
    for (let at = 0; at < items.length; at += 2 * length) await merge(from, to, { at, length, compare });
    [from, to] = [to, from];
  }
  if (from !== items) items.set(from);
}

async function merge(
  from: Uint32Array,
  to: Uint32Array,
  o: { readonly at: number; readonly length: number; readonly compare: (one: number, other: number) => number },
): Promise<void> {
  const middle = Math.min(o.at + o.length, from.length);
  const end = Math.min(middle + o.length, from.length);
  let [left, right] = [o.at, middle];
  for (let at = o.at; at < end; at++) {
    const [one = 0, other = 0] = [from[left], from[right]];
    const takesLeft = left < middle && (right >= end || o.compare(one, other) <= 0);
    to[at] = takesLeft ? one : other;
    if (takesLeft) left++;
    else right++;
    if (at % turnLength === 0) await setImmediate();
  }
}
