/**
 * True when `a` is older than `b`: resource versions of one kind are integers without leading zeros, ordered by size
 * (Kubernetes 1.35, KEP-5504).
 */
export function isOlderVersion(a: string, b: string): boolean {
  return a.length === b.length ? a < b : a.length < b.length;
}
