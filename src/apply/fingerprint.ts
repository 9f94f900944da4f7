import { createHash } from "node:crypto";
import { fieldManager } from "../api/keys.ts";
import type { RenderedObject } from "../domain/rendered.ts";
import type { KubeObject } from "../lib/kube-object.ts";

/**
 * What an object looked like right after it was applied. A foreign change or removal of a field we own takes that field
 * out of our entry in `managedFields`, so an equal fingerprint proves that nothing drifted (spec 20 §6.4).
 */
export interface Fingerprint {
  /** Of the manifest that was applied. */
  readonly hash: string;
  readonly uid: string;
  /** Digest of the fields our apply entry owns. */
  readonly owned: string;
}

/** Undefined for objects without managedFields: those are dry-run each time. */
export function fingerprintOf(object: RenderedObject, live: KubeObject): Fingerprint | undefined {
  const entry = live.metadata.managedFields?.find(
    (each) => each.manager === fieldManager && each.operation === "Apply" && (each.subresource ?? "") === "",
  );
  const { uid } = live.metadata;
  if (entry === undefined || uid === undefined) return undefined;
  const owned = createHash("sha256")
    .update(JSON.stringify(entry.fieldsV1 ?? null))
    .digest("base64url");
  return { hash: object.hash, uid, owned };
}

/** The live object is as it was when it was applied, and the manifest is the same. */
export function isUntouched(known: Fingerprint | undefined, object: RenderedObject, live: KubeObject): boolean {
  if (known === undefined || known.hash !== object.hash || live.metadata.deletionTimestamp !== undefined) return false;
  const now = fingerprintOf(object, live);
  return now !== undefined && now.uid === known.uid && now.owned === known.owned;
}
