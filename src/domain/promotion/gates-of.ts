import { asArray, asText, at } from "../../lib/json.ts";
import type { KubeObject } from "../../lib/kube-object.ts";

/** `open` also while the stage is on its way to its gate, or the StageSet is not acted on. */
export type GateNow = "open" | "closed" | "blocked";

/** The promotion gates of a StageSet by stage, as its status has them; a stage without one is not named. */
export function gatesOf(stageSet: KubeObject): ReadonlyMap<string, GateNow> {
  const acted = stageSet.metadata.deletionTimestamp === undefined && at(stageSet, "spec", "suspend") !== true;
  const gated = asArray(at(stageSet, "spec", "stages")).filter((stage) => at(stage, "promotion") !== undefined);
  if (gated.length === 0) return new Map();
  const entries = new Map(asArray(at(stageSet, "status", "stages")).map((entry) => [at(entry, "name"), entry]));
  return new Map(
    gated.map((stage) => {
      const name = asText(at(stage, "name")) ?? "";
      return [name, acted ? gateOf(entries.get(name)) : "open"];
    }),
  );
}

function gateOf(entry: unknown): GateNow {
  const phase = asText(at(entry, "promotionState", "phase"));
  if (phase === "Blocked") return "blocked";
  return phase === undefined || phase === "Promoted" || at(entry, "phase") !== "Ready" ? "open" : "closed";
}
