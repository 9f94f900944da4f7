import type { Standstill, Waiting } from "./state.ts";

/** Without a change of readiness for so long a wait makes no progress (spec 20 §16.7). */
export const standstillMs = 2 * 60_000;

export function standstillOf(
  waiting: readonly Waiting[],
  { before, elapsed }: { readonly before: Standstill | undefined; readonly elapsed: number },
): Standstill {
  const text = JSON.stringify(
    waiting.map(({ kind, namespace, name, status, message }) => [kind, namespace, name, status, message]),
  );
  return before?.waiting === text ? before : { waiting: text, since: elapsed };
}

/**
 * Nothing is lost when a newer revision takes the place of what is waited for: pods are stuck, or nothing has changed for
 * {@link standstillMs}.
 */
export function isUnproductive(waiting: readonly Waiting[], standstill: Standstill, elapsed: number): boolean {
  return waiting.some(({ cause }) => cause?.isStuck === true) || elapsed - standstill.since >= standstillMs;
}
