import { asText, at } from "../../src/lib/json.ts";
import type { TestCluster } from "./cluster.ts";

/** An Event as tests look at it. */
export interface SeenEvent {
  readonly type: string;
  readonly reason: string;
  readonly note: string;
  /** `action` of the Event; equals the reason. */
  readonly action: string;
  readonly reportingController: string;
  /** How often it was said: 1, or the count of its series. */
  readonly count: number;
}

/** The Events about one StageSet, or those with one reason; of another kind if said. */
export async function stageSetEvents(
  { admin }: TestCluster,
  o: { readonly namespace: string; readonly name: string; readonly reason?: string; readonly kind?: string },
): Promise<readonly SeenEvent[]> {
  const { namespace, name, reason, kind = "StageSet" } = o;
  const events = await admin.list({ apiVersion: "events.k8s.io/v1", kind: "Event", namespace });
  return events
    .filter((event) => at(event, "regarding", "kind") === kind && at(event, "regarding", "name") === name)
    .map((event) => ({
      type: asText(event["type"]) ?? "",
      reason: asText(event["reason"]) ?? "",
      note: asText(event["note"]) ?? "",
      action: asText(event["action"]) ?? "",
      reportingController: asText(event["reportingController"]) ?? "",
      count: Number(at(event, "series", "count") ?? 1),
    }))
    .filter((event) => reason === undefined || event.reason === reason);
}
