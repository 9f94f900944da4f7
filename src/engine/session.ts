import type { ReadyReason } from "../api/reasons.ts";
import { emptyMemory, type Memory } from "../domain/pass/state.ts";
import type { RenderFact } from "../domain/pass/state.ts";
import type { Fingerprint } from "../apply/apply-wave.ts";
import type { ArtifactIdentity } from "../domain/pins.ts";
import type { RenderedObject } from "../domain/rendered.ts";
import type { Fight } from "./fight.ts";
import type { Awaited } from "./awaited.ts";
import type { DecryptedRenders } from "./facts/decrypted-renders.ts";

/** What this process remembers of one StageSet between passes; all of it may be lost at any time. */
export interface Session {
  memory: Memory;
  /** By stage and object id: proves "no drift" with one read (spec 20 §6.4). */
  readonly fingerprints: Map<string, Map<string, Fingerprint>>;
  /** By object id: who else keeps changing what we apply. */
  readonly fights: Map<string, Fight>;
  /** `<stage> <id>` of objects that were deleted to be created anew, until they are. */
  readonly recreating: Set<string>;
  /** What each stage with a promotion gate was last judged by, and at which identity. */
  readonly awaited: Map<string, { readonly identity: ArtifactIdentity; readonly awaited: readonly Awaited[] }>;
  /** Renders of the run under way, so that a wake builds nothing. */
  readonly renders: Map<string, RenderFact>;
  /** What stands in the file of `spec.version.fromArtifact`, by artifact and path. */
  readonly versionFiles: Map<string, string>;
  /** Of each stage that decrypts: what is kept of it in the clear. */
  readonly decryptedRenders: Map<string, DecryptedRenders>;
  /** Hash of the render of each stage that the preflight last let pass. */
  readonly preflighted: Map<string, string>;
  /** Images of each stage as it was last judged: whose policies are news for it. */
  readonly images: Map<string, readonly string[]>;
  /** The render of each stage with its images pinned, and what it was made from. */
  readonly pinned: Map<string, PinnedRender>;
  /** The last (status, reason) an Event was emitted for. */
  announced: string | undefined;
  /** Why a pass was last held, and told so; `unknown`: as the status on record says. */
  held: ReadyReason | "unknown" | undefined;
  /** Stages whose error budget could not be read last; "": the rollout-wide one. */
  readonly unreadable: Set<string>;
  /** `<stage> <action>` of completions whose witness could not be read last. */
  readonly unreadableAnchors: Set<string>;
  /** Keys of Events that are said once. */
  readonly said: Set<string>;
}

export interface PinnedRender {
  readonly of: string;
  readonly source: readonly RenderedObject[];
  readonly render: Extract<RenderFact, { kind: "rendered" }>;
}

/** Bound on remembered Event keys per StageSet; past it the oldest may be said again. */
const mostSaid = 200;

export function createSession(): Session {
  return {
    memory: emptyMemory,
    fingerprints: new Map(),
    fights: new Map(),
    recreating: new Set(),
    awaited: new Map(),
    renders: new Map(),
    versionFiles: new Map(),
    decryptedRenders: new Map(),
    preflighted: new Map(),
    images: new Map(),
    pinned: new Map(),
    announced: undefined,
    held: "unknown",
    unreadable: new Set(),
    unreadableAnchors: new Set(),
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
