import type { Condition, StageSetSpec, StageSetStatus, StageStatus } from "../api/stage-set.ts";
import type { ReadyReason } from "../api/reasons.ts";
import type { ArtifactIdentity } from "./pins.ts";

/** Longest `Ready` message in characters (spec 10 §6) and longest stage message (§5.1). */
const longestReadyMessage = 32_768;
const longestStageMessage = 8_192;

/** What a status write says about the StageSet as a whole. */
export interface ReadyState {
  readonly status: "True" | "False" | "Unknown";
  readonly reason: ReadyReason;
  /** Without the runbook suffix. */
  readonly message: string;
  /** `Stalled` instead of `Reconciling` while not ready. */
  readonly stalled: boolean;
}

export interface StatusContext {
  readonly generation: number;
  /** Epoch ms. */
  readonly now: number;
  /** Undefined: the message ends without a link. */
  readonly runbookLink: (reason: ReadyReason) => string | undefined;
}

/**
 * Entries by name, of lists that are asked again and again: with 1,000 stages a search through all of them for each,
 * in each step, would take seconds. Nothing but the lists themselves is remembered, as long as somebody holds them.
 */
const shortList = 16;
const indexes = new WeakMap<readonly StageStatus[], ReadonlyMap<string, StageStatus>>();

/** A stage's entry by name; the first, should a stored status name it twice. */
export function stageEntry({ stages }: StageSetStatus, name: string): StageStatus | undefined {
  if (stages === undefined || stages.length <= shortList) return stages?.find((entry) => entry.name === name);
  let index = indexes.get(stages);
  if (index === undefined) {
    index = new Map(stages.toReversed().map((entry) => [entry.name, entry]));
    indexes.set(stages, index);
  }
  return index.get(name);
}

/** What the stage last began; older records without it fall back to what was applied (spec 40 §10). */
export function enteredIdentity(entry: StageStatus | undefined): ArtifactIdentity | undefined {
  if (entry === undefined) return undefined;
  if (entry.enteredRevision !== undefined && entry.enteredRevision !== "")
    return { revision: entry.enteredRevision, digest: entry.enteredDigest };
  return appliedIdentity(entry);
}

/** The artifact of which every object was last accepted. */
export function appliedIdentity(entry: StageStatus | undefined): ArtifactIdentity | undefined {
  if (entry?.appliedRevision === undefined || entry.appliedRevision === "") return undefined;
  return { revision: entry.appliedRevision, digest: entry.appliedDigest };
}

/**
 * The entries of the spec's stages in spec order, each carried over whole from what is stored: a dropped token or
 * ledger would replay an old promotion or run actions again (spec 10 §5.1).
 */
export function orderedStages(spec: StageSetSpec, status: StageSetStatus): readonly StageStatus[] {
  return spec.stages.map((stage) => stageEntry(status, stage.name) ?? { name: stage.name, phase: "Pending" });
}

/** The status with one stage's entry changed; members given as undefined are removed. */
export function withStage(
  status: StageSetStatus,
  name: string,
  change: { readonly [Member in keyof StageStatus]?: StageStatus[Member] | undefined },
): StageSetStatus {
  const stages = (status.stages ?? []).map((entry) => (entry.name === name ? merge(entry, change) : entry));
  return { ...status, stages };
}

function merge(
  entry: StageStatus,
  change: { readonly [Member in keyof StageStatus]?: StageStatus[Member] | undefined },
): StageStatus {
  const merged: Record<string, unknown> = { ...entry };
  for (const [member, value] of Object.entries(change)) {
    if (value === undefined) Reflect.deleteProperty(merged, member);
    else merged[member] = member === "message" && typeof value === "string" ? cut(value, longestStageMessage) : value;
  }
  // Every member comes from a StageStatus or a change typed as one.
  return merged as unknown as StageStatus;
}

/** The status with Ready, Reconciling and Stalled set; conditions of other types stay as they are. */
export function withReady(status: StageSetStatus, ready: ReadyState, context: StatusContext): StageSetStatus {
  const link = context.runbookLink(ready.reason);
  const suffix = link === undefined ? "" : ` (runbook: ${link})`;
  const message = `${cut(ready.message, longestReadyMessage - suffix.length)}${suffix}`;
  const wanted: Omit<Condition, "lastTransitionTime">[] = [
    { type: "Ready", status: ready.status, reason: ready.reason, message, observedGeneration: context.generation },
  ];
  if (ready.status !== "True" && ready.reason !== "Suspended")
    wanted.push({
      type: ready.stalled ? "Stalled" : "Reconciling",
      status: "True",
      reason: ready.reason,
      message,
      observedGeneration: context.generation,
    });
  const stored = status.conditions ?? [];
  const ours = new Set(["Ready", "Reconciling", "Stalled"]);
  const conditions = [
    ...wanted.map((condition) => {
      const before = stored.find((candidate) => candidate.type === condition.type);
      const lastTransitionTime =
        before !== undefined && before.status === condition.status ? before.lastTransitionTime : timestamp(context.now);
      return { ...condition, lastTransitionTime };
    }),
    ...stored.filter((condition) => !ours.has(condition.type)),
  ];
  return { ...status, conditions, observedGeneration: context.generation };
}

/** The Ready condition, if the controller has seen the object. */
export function readyCondition(status: StageSetStatus | undefined): Condition | undefined {
  return status?.conditions?.find((condition) => condition.type === "Ready");
}

/** RFC 3339 in UTC with whole seconds (spec 10 §2). */
export function timestamp(epochMs: number): string {
  return `${new Date(Math.floor(epochMs / 1_000) * 1_000).toISOString().slice(0, 19)}Z`;
}

/** At most `length` UTF-16 units, never splitting a character. */
function cut(text: string, length: number): string {
  if (text.length <= length) return text;
  const end = length - 1;
  const last = text.charCodeAt(end - 1);
  return `${text.slice(0, last >= 0xd800 && last < 0xdc00 ? end - 1 : end)}…`;
}
