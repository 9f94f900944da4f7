import { stageSetRow } from "../../domain/why/view.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import type { ChangedObject, UiView } from "./ui-view.ts";

/** Rows made in one turn of the event loop, which is that of the gate too. */
export const rowsPerTurn = 25;
/** How long a row's text is taken as it is. */
const freshMs = 1_000;

/** Rows as text, shared by all streams and lists: one text until it reads otherwise. */
export interface Rows {
  text(stageSet: KubeObject): string;
  /** What reads otherwise though no object changed; found in turns, as there may be thousands. */
  changedByTime(): Promise<readonly ChangedObject[]>;
}

export function createRows(view: UiView): Rows {
  const known = new WeakMap<KubeObject, { readonly text: string; readonly at: number }>();
  const text = (stageSet: KubeObject): string => {
    const input = view.input(stageSet);
    const before = known.get(stageSet);
    if (before !== undefined && input.now >= before.at && input.now - before.at < freshMs) return before.text;
    const now = JSON.stringify(stageSetRow(input));
    // The same text twice would be held twice, by every stream.
    const kept = now === before?.text ? before.text : now;
    known.set(stageSet, { text: kept, at: input.now });
    return kept;
  };
  return {
    text,
    async changedByTime() {
      const changed: ChangedObject[] = [];
      for (const [index, stageSet] of view.stageSets().entries()) {
        if (index > 0 && index % rowsPerTurn === 0) await new Promise((resolve) => setImmediate(resolve));
        const before = known.get(stageSet)?.text;
        const { namespace = "", name } = stageSet.metadata;
        if (before !== undefined && text(stageSet) !== before) changed.push({ kind: "StageSet", namespace, name });
      }
      return changed;
    },
  };
}
