import { hash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { renderObjectId } from "../domain/object-id.ts";
import type { RenderedObject } from "../domain/rendered.ts";
import { BuildError } from "./build-error.ts";
import type { Draft, Scope } from "./draft.ts";
import { describeManifest } from "./manifest.ts";

/** Bytes finished in one turn of the event loop, a few milliseconds' worth. */
const sliceBytes = 2 * 1024 * 1024;

/**
 * Gives every object its namespace, id and hash. An object of unknown scope keeps what is written, else gets the
 * default: applying it reports the missing kind.
 *
 * @throws {BuildError} `Duplicate`, naming both
 */
export async function finishDrafts(
  drafts: readonly Draft[],
  {
    scopes,
    defaultNamespace,
    signal,
  }: {
    readonly scopes: ReadonlyMap<string, Scope | undefined>;
    readonly defaultNamespace: string;
    readonly signal: AbortSignal;
  },
): Promise<readonly RenderedObject[]> {
  const byId = new Map<string, Draft>();
  const objects: RenderedObject[] = [];
  let bytes = 0;
  for (const draft of drafts) {
    const scope = scopes.get(`${draft.group}/${draft.kind}`);
    const namespace = scope === "Cluster" ? "" : draft.namespace === "" ? defaultNamespace : draft.namespace;
    const object = finishDraft(draft, namespace);
    const twin = byId.get(object.id);
    if (twin !== undefined) throw duplicate(twin, draft, namespace);
    byId.set(object.id, draft);
    objects.push(object);
    bytes += object.body.byteLength;
    if (bytes < sliceBytes) continue;
    bytes = 0;
    await setImmediate();
    signal.throwIfAborted();
  }
  return objects;
}

function finishDraft(draft: Draft, namespace: string): RenderedObject {
  const { group, version, kind, name, controls, helmHook, expires, images } = draft;
  const inserted = namespace === "" ? "" : `,"namespace":${JSON.stringify(namespace)}`;
  const body = joined([draft.head, Buffer.from(inserted), draft.tail]);
  const id = renderObjectId({ group, kind, namespace, name });
  const identity = { id, group, version, kind, namespace, name };
  const found = images.length === 0 ? {} : { images };
  return { ...identity, hash: hash("sha256", body), body, controls, helmHook, expires, ...found };
}

/** In memory of its own: renders are kept for long, and from Node's pool each would keep 8 KB of what passes alive. */
function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let end = 0;
  for (const part of parts) {
    whole.set(part, end);
    end += part.byteLength;
  }
  return whole;
}

function duplicate(one: Draft, other: Draft, namespace: string): BuildError {
  const where = namespace === "" ? "" : ` of namespace "${namespace}"`;
  const message = `Two objects${where} are the same: ${describeManifest(one)} and ${describeManifest(other)}`;
  return new BuildError("Duplicate", message);
}
