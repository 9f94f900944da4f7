import { enteredIdentity, appliedIdentity, stageEntry } from "../status.ts";
import { completionOf } from "../actions/stage-ledger.ts";
import { isSkipped } from "../images/break-glass.ts";
import { pinsOnRecord } from "../images/pins.ts";
import { deepEqual } from "../../lib/equal.ts";
import { sameIdentity } from "../pins.ts";
import type { Stored } from "./state.ts";
import type { RecordKey } from "./step.ts";

/** The first required record that is not acknowledged, in words for the log; undefined when all are. */
export function missingRecord(stored: Stored, required: readonly RecordKey[]): string | undefined {
  for (const key of required) {
    const missing = missingOne(stored, key);
    if (missing !== undefined) return missing;
  }
  return undefined;
}

function missingOne(stored: Stored, key: RecordKey): string | undefined {
  switch (key.kind) {
    case "finalizer":
      return stored.hasFinalizer ? undefined : "the finalizer is not on record";
    case "inventory": {
      const recorded = new Set(stored.inventory.get(key.stage)?.entries.map((entry) => entry.id));
      const missing = key.ids.find((id) => !recorded.has(id));
      return missing === undefined ? undefined : `"${missing}" is not in the inventory of stage "${key.stage}"`;
    }
    case "entered": {
      const entered = enteredIdentity(stageEntry(stored.status, key.stage));
      return sameIdentity(entered, key.identity)
        ? undefined
        : `stage "${key.stage}" is not on record as having begun "${key.identity.revision}"`;
    }
    case "ledger":
      if (stored.ledger === undefined) return "there is no StageLedger";
      return completionOf(stored.ledger, key) === undefined
        ? undefined
        : `action "${key.action}" of stage "${key.stage}" is on record as completed`;
    case "verifiedImages": {
      const recorded = pinsOnRecord(stageEntry(stored.status, key.stage), key.revision);
      const missing = key.pins.find((pin) => !recorded.some((each) => deepEqual(each, pin)));
      return missing === undefined
        ? undefined
        : `image "${missing.image}" of stage "${key.stage}" is not pinned on record`;
    }
    case "skippedImages":
      return isSkipped(stored.status, key.token, key)
        ? undefined
        : `stage "${key.stage}" is not on record as one whose images are not verified`;
    case "earlierStagesReady": {
      const early = key.stages.find(({ stage, identity }) => {
        const entry = stageEntry(stored.status, stage);
        return entry?.phase !== "Ready" || !sameIdentity(appliedIdentity(entry), identity);
      });
      return early === undefined ? undefined : `stage "${early.stage}" is not on record as Ready`;
    }
  }
}
