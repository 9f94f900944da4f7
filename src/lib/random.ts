/** Chance as code sees it: uniform in [0, 1). */
export type Random = () => number;

/** Not for secrets. */
export const systemRandom: Random = () => Math.random();

/** `value` moved by at most ±`share` of itself, uniformly; 0.05 is the ±5 % of spec 20 §1. */
export function jitter(value: number, share: number, random: Random): number {
  return value * (1 + share * (2 * random() - 1));
}
