import { createHash } from "node:crypto";
import { fieldManager, nameLabel, namespaceLabel, stageLabel } from "../api/keys.ts";
import type { RenderedObject } from "../domain/rendered.ts";
import type { KubeObject } from "../lib/kube-object.ts";

/**
 * What of a live object shows that nobody else touched what we apply: a foreign change or removal of a field we own
 * takes that field out of our entry in `managedFields` (spec 20 §6.4).
 */
export interface Print {
  readonly uid: string;
  /**
   * Digest of the fields our apply entry owns, when it was made, and whose the object is: another StageSet, or the command
   * line, applies under the same manager and so changes values without taking a field out of the entry.
   */
  readonly owned: string;
}

/** What an object looked like right after it was applied; an equal print proves that nothing drifted. */
export interface Fingerprint extends Print {
  /** Of the manifest that was applied. */
  readonly hash: string;
}

/** Undefined for objects without managedFields, or without an entry of ours: those are dry-run each time. */
export function printOf(live: KubeObject): Print | undefined {
  const entry = live.metadata.managedFields?.find(
    (each) => each.manager === fieldManager && each.operation === "Apply" && (each.subresource ?? "") === "",
  );
  const { uid } = live.metadata;
  if (entry === undefined || uid === undefined) return undefined;
  const owners = [stageLabel, nameLabel, namespaceLabel].map((label) => live.metadata.labels?.[label] ?? null);
  const owned = createHash("sha256")
    .update(JSON.stringify([entry.fieldsV1 ?? null, entry["time"] ?? null, owners]))
    .digest("base64url");
  return { uid, owned };
}

export function samePrint(a: Print | undefined, b: Print | undefined): boolean {
  return a !== undefined && a.uid === b?.uid && a.owned === b.owned;
}

export function fingerprintOf(object: RenderedObject, live: KubeObject): Fingerprint | undefined {
  const print = printOf(live);
  return print === undefined ? undefined : { hash: object.hash, ...print };
}

/** The live object is as it was when it was applied, and the manifest is the same. */
export function isUntouched(known: Fingerprint | undefined, object: RenderedObject, live: KubeObject): boolean {
  if (known === undefined || known.hash !== object.hash || live.metadata.deletionTimestamp !== undefined) return false;
  return samePrint(known, printOf(live));
}

/** Who last wrote a part of the object beside us, status left out; undefined when nobody is on record. */
export function rivalOf(live: KubeObject): string | undefined {
  let latest: { readonly manager: string; readonly time: string } | undefined;
  for (const { manager, operation, subresource, time = "" } of live.metadata.managedFields ?? []) {
    if (manager === undefined || subresource === "status") continue;
    if (manager === fieldManager && operation === "Apply") continue;
    if (latest === undefined || time >= latest.time) latest = { manager, time };
  }
  return latest?.manager;
}
