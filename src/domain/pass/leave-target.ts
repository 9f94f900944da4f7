import { targetName } from "../target.ts";
import type { PassState, RecordedStage } from "./state.ts";
import type { InventoryRecord, PassEvent, Step } from "./step.ts";

/**
 * What is recorded of another cluster than the one `spec.kubeConfig` names now leaves the record and stays where it is
 * (spec 20 §14): on this one its names may be somebody else's. Undefined when there is none.
 */
export function leaveTarget(state: PassState): Step | undefined {
  const { snapshot, stored } = state;
  // Without a readable spec nothing is known of where to go.
  if (snapshot.spec === undefined) return undefined;
  const target = targetName(snapshot.spec.kubeConfig);
  const left = [...stored.inventory.values()].filter(
    (recorded) => recorded.target !== undefined && recorded.target !== target && recorded.entries.length > 0,
  );
  const [first, ...ahead] = left.map(emptied);
  if (first === undefined) return undefined;
  return {
    kind: "record",
    write: { kind: "inventory", ...first, ...(ahead.length === 0 ? {} : { ahead }) },
    events: [changed(left, { target, generation: snapshot.generation })],
  };
}

function emptied({ stage, position }: RecordedStage): InventoryRecord {
  return { stage, position, entries: [], serviceAccount: undefined };
}

function changed(
  left: readonly RecordedStage[],
  { target, generation }: { readonly target: string; readonly generation: number },
): PassEvent {
  const count = left.reduce((sum, { entries }) => sum + entries.length, 0);
  const before = [...new Set(left.flatMap((recorded) => recorded.target ?? []))].sort().join(", ");
  return {
    type: "Warning",
    reason: "TargetChanged",
    note: `spec.kubeConfig names another cluster: ${count} object(s) recorded for ${before} are no longer managed and stay there; the target is ${target} now`,
    // What could not be written with the first of several stages is written soon after.
    once: `target ${generation} ${before} ${target}`,
  };
}
