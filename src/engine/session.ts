import { emptyMemory, type Memory } from "../domain/pass/state.ts";
import type { RenderFact } from "../domain/pass/state.ts";
import type { Fingerprint } from "../apply/apply-wave.ts";

/** What this process remembers of one StageSet between passes; all of it may be lost at any time. */
export interface Session {
  memory: Memory;
  /** By stage and object id: proves "no drift" with one read (spec 20 §6.4). */
  readonly fingerprints: Map<string, Map<string, Fingerprint>>;
  /** Renders of the run under way, so that a wake builds nothing. */
  readonly renders: Map<string, RenderFact>;
  /** The last (status, reason) an Event was emitted for. */
  announced: string | undefined;
  /** Keys of Events that are said once. */
  readonly said: Set<string>;
}

/** Bound on remembered Event keys per StageSet; past it the oldest may be said again. */
const mostSaid = 200;

export function createSession(): Session {
  return {
    memory: emptyMemory,
    fingerprints: new Map(),
    renders: new Map(),
    announced: undefined,
    said: new Set(),
  };
}

/** True the first time a key is given. */
export function sayOnce(session: Session, key: string): boolean {
  if (session.said.has(key)) return false;
  session.said.add(key);
  const oldest = session.said.values().next().value;
  if (session.said.size > mostSaid && oldest !== undefined) session.said.delete(oldest);
  return true;
}
