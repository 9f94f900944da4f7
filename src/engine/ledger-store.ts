import type { BaselineEntry, StageLedgerStatus } from "../api/stage-ledger.ts";
import type { StoredLedger } from "../domain/actions/stage-ledger.ts";
import { asArray, asObject, asText, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { ResourceCache } from "../kube/cache.ts";
import { createFreshest } from "./freshest.ts";
import { createOwnWrites } from "./own-writes.ts";

/** StageLedgers, never older than our own last write or read. */
export interface LedgerStore extends Disposable {
  get(namespace: string, name: string): StoredLedger | undefined;
  note(ledger: KubeObject): void;
  /** It is not there any more. */
  noteMissing(namespace: string, name: string): void;
  /** A write of ours is under way until this is disposed; its answer must be noted before. */
  writing(namespace: string, name: string): Disposable;
  /** Calls back if somebody else left the ledger so. */
  judge(ledger: KubeObject, foreign: () => void): void;
}

export function createLedgerStore(cache: ResourceCache<KubeObject>): LedgerStore {
  const freshest = createFreshest(cache);
  const own = createOwnWrites();
  // A pass asks before each of its steps.
  const read = new WeakMap<KubeObject, StoredLedger>();
  return {
    get(namespace, name) {
      const object = freshest.get(namespace, name);
      if (object === undefined) return undefined;
      const known = read.get(object) ?? readLedger(object);
      read.set(object, known);
      return known;
    },
    note(ledger) {
      freshest.note(ledger);
      own.remember(ledger.metadata.resourceVersion ?? "");
    },
    noteMissing(namespace, name) {
      const known = freshest.get(namespace, name);
      if (known !== undefined) freshest.noteDeleted(known);
    },
    writing: (namespace, name) => own.writing(`${namespace}/${name}`),
    judge(ledger, foreign) {
      own.after(`${ledger.metadata.namespace ?? ""}/${ledger.metadata.name}`, () => {
        if (!own.has(ledger.metadata.resourceVersion ?? "")) foreign();
      });
    },
    [Symbol.dispose]: () => freshest[Symbol.dispose](),
  };
}

function readLedger(object: KubeObject): StoredLedger {
  const baseline = asArray(at(object, "spec", "baseline")).flatMap((entry): readonly BaselineEntry[] => {
    const [stage, action] = [asText(at(entry, "stage")), asText(at(entry, "action"))];
    return stage === undefined || action === undefined ? [] : [{ stage, action }];
  });
  // Written only through /status, whose schema the API server enforced.
  const status: StageLedgerStatus = asObject(object["status"]) ?? {};
  const { uid = "", resourceVersion = "" } = object.metadata;
  return { uid, resourceVersion, baseline, status };
}
