import type { Clock } from "../lib/clock.ts";
export type GuardedFetch = (url: string, o: { readonly signal: AbortSignal }) => Promise<Response>;
export function createGuardedFetch(_o: { readonly allowLoopback: boolean; readonly clock: Clock }): GuardedFetch {
  return (url, { signal }) => fetch(url, { signal });
}
