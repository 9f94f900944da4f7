import type { Print } from "../apply/fingerprint.ts";
import type { ObjectId } from "../domain/object-id.ts";
import type { Explanation } from "../domain/readiness/workload-pods.ts";
import type { Readiness } from "../domain/readiness/readiness.ts";
import type { Access } from "../identity/access.ts";
import type { ApiResource } from "../kube/request.ts";
import { isOlderVersion } from "../kube/resource-version.ts";
import type { KubeObject } from "../lib/kube-object.ts";

/** The last thing known of one object. `object` is kept only where an expression reads it. */
export interface Observation {
  readonly readiness: Readiness;
  /** Of the object, or of its deletion. */
  readonly resourceVersion: string;
  readonly object: KubeObject | undefined;
  /** Undefined also while the object is Current. */
  readonly explanation: Explanation | undefined;
  /** A Job that is removed some time after it ended. */
  readonly expires: boolean;
  /** Monotonic ms of the last read or event, and of the last one that showed something new. */
  readonly seenAt: number;
  readonly changedAt: number;
}

/** What is known of one object, and of how. */
export interface Slot extends Observation {
  /** Undefined: gone, or without managedFields. */
  readonly print: Print | undefined;
  /** Name of the watch that follows it, and the stretch of that watch in which it was seen. */
  readonly watch: string | undefined;
  readonly stream: number | undefined;
}

/** One applied object that is to stay as it is. */
export interface Guarded {
  readonly id: ObjectId;
  readonly resource: ApiResource;
  readonly access: Access;
  /** As it was applied. */
  readonly print: Print;
  /** Its metadata tells all there is to know: its readiness never changes. */
  readonly metadataOnly: boolean;
  readonly shared: boolean;
}

/** A state of an object as it was read, written, or brought by a watch. */
export interface Sight {
  /** Of the object, or of its deletion; undefined: a read found nothing. */
  readonly resourceVersion: string | undefined;
  /** When the reading of it began, monotonic ms. */
  readonly since: number;
}

/**
 * Something newer is known of the object. A pass notes what it read when it has read and written everything, and a watch
 * may have been quicker; a deletion therefore counts by its own resourceVersion, and a read that found nothing, which has
 * none, by when it began.
 */
export function isOutdated(
  { resourceVersion, since }: Sight,
  known: Pick<Slot, "resourceVersion" | "seenAt"> | undefined,
): boolean {
  if (known === undefined) return false;
  return resourceVersion === undefined ? known.seenAt > since : isOlderVersion(resourceVersion, known.resourceVersion);
}
