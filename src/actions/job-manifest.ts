import { createHash } from "node:crypto";
import { apiVersion as stageSetVersion } from "../api/group.ts";
import { actionAfterAnnotation, actionLabel, actionRunAnnotation } from "../api/keys.ts";
import { isLabelValue } from "../domain/formats/label-selector.ts";
import type { RenderedObject } from "../domain/rendered.ts";
import { asArray, asNumber, asObject } from "../lib/json.ts";

/** A finished Job stays for a day at least, so that it can be looked at. */
const leastTtlSeconds = 86_400;
/** Of a name with a dash and eight digits behind it: 63 characters. */
const mostBase = 54;

/** What tells one run of a Job from all others (spec 30 §3.4). */
export interface RunKey {
  readonly owner: { readonly namespace: string; readonly name: string; readonly uid: string };
  /** `<list>:<stage>`. */
  readonly list: string;
  readonly action: string;
  /** The key the action's completion is recorded under: revision, version, or `lifetime`. */
  readonly ledgerKey: string;
  /** Those of the reconcile-stage and reset-scope annotations; empty: none. */
  readonly tokens: readonly string[];
  /** The last completion on record: no part of the hash, so that what still runs of an earlier time is found and awaited. */
  readonly after: string;
  readonly artifactDigest: string;
  readonly path: string;
}

export interface PlannedJob {
  readonly namespace: string;
  readonly name: string;
  readonly runKey: string;
  readonly after: string;
  /** As it is created. */
  readonly body: Readonly<Record<string, unknown>>;
}

/** The Job as it is created: named after its run, marked with it, and owned by the StageSet where that can be. */
export function planJob(object: RenderedObject, key: RunKey, isRemote: boolean): PlannedJob {
  const { namespace, name: written } = object;
  const runKey = hashOf([
    ...[key.owner.namespace, key.owner.name, key.owner.uid, key.list, key.action, key.ledgerKey],
    ...[...key.tokens, key.artifactDigest, key.path, written],
  ]);
  const name = `${written.slice(0, mostBase).replace(/[-.]+$/, "")}-${runKey.slice(0, 8)}`;
  const manifest = asObject(JSON.parse(Buffer.from(object.body).toString("utf8"))) ?? {};
  const metadata = asObject(manifest["metadata"]) ?? {};
  const spec = asObject(manifest["spec"]) ?? {};
  const ttl = Math.max(asNumber(spec["ttlSecondsAfterFinished"]) ?? 0, leastTtlSeconds);
  const owned = !isRemote && namespace === key.owner.namespace;
  const reference = { apiVersion: stageSetVersion, kind: "StageSet", name: key.owner.name, uid: key.owner.uid };
  const body = {
    ...manifest,
    metadata: {
      ...metadata,
      name,
      labels: { ...asObject(metadata["labels"]), [actionLabel]: labelOf(key.action) },
      annotations: {
        ...asObject(metadata["annotations"]),
        [actionRunAnnotation]: runKey,
        [actionAfterAnnotation]: key.after,
      },
      ...(owned ? { ownerReferences: [...asArray(metadata["ownerReferences"]), reference] } : {}),
    },
    spec: { ...spec, ttlSecondsAfterFinished: ttl },
  };
  return { namespace, name, runKey, after: key.after, body };
}

function labelOf(action: string): string {
  return action !== "" && isLabelValue(action) ? action : hashOf([action]).slice(0, 8);
}

function hashOf(parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}
