import type { ObjectId } from "./object-id.ts";

/** One object of a stage's render, final: substituted, normalised, namespaced and labelled. */
export interface RenderedObject extends ObjectId {
  /** {@link ObjectId} as the inventory spells it. */
  readonly id: string;
  readonly version: string;
  /** Hex SHA-256 of `body`; equal hashes mean equal objects. */
  readonly hash: string;
  /** The object as JSON with sorted keys, UTF-8; sent as it is. */
  readonly body: Uint8Array;
  readonly controls: ObjectControls;
  /** `helm.sh/hook` was on the manifest (spec 20 §5.4). */
  readonly helmHook: boolean;
  /** A Secret's values went into the stage it belongs to: what the API server says of it may quote one (spec 50 §11.3). */
  readonly secretInput?: boolean;
  /** A Job that Kubernetes removes some time after it ended (`ttlSecondsAfterFinished`). */
  readonly expires?: boolean;
  /** Images of its pod spec; absent: none. */
  readonly images?: readonly string[];
}

/** What a manifest says about its own handling, by annotation or label (spec 20 §6.6). */
export interface ObjectControls {
  readonly prune: "enabled" | "disabled";
  readonly force: boolean;
  readonly keepExisting: boolean;
  readonly reconcile: "enabled" | "disabled";
  /** Keys whose value is not one of those accepted, for the Event `AnnotationIgnored`. */
  readonly ignored: readonly string[];
}
