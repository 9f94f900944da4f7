import { fieldManager, finalizer, stageLabel } from "../api/keys.ts";
import type { StageSetStatus } from "../api/stage-set.ts";
import { planShards, type SkippedEntry } from "../domain/inventory.ts";
import { checkStatus } from "../domain/invariants.ts";
import type { RecordedStage, Stored } from "../domain/pass/state.ts";
import type { InventoryRecord, Write } from "../domain/pass/step.ts";
import { targetName } from "../domain/target.ts";
import { inFlight } from "../apply/in-flight.ts";
import { asArray, asObject, asText, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { KubeClient } from "../kube/client.ts";
import { KubeError } from "../kube/error.ts";
import {
  createRequest,
  deleteRequest,
  getRequest,
  mergePatchRequest,
  replaceRequest,
  replaceStatusRequest,
} from "../kube/request.ts";
import type { Freshest } from "./freshest.ts";
import { asKubeObject } from "./kube-answer.ts";
import { refreshLedger, writeLedger } from "./ledger-records.ts";
import type { LedgerStore } from "./ledger-store.ts";
import type { InventoryStore } from "./inventory-store.ts";
import { createRecordedStages, type RecordedStages } from "./recorded-stages.ts";
import { stageInventories, stageSets } from "./resources.ts";

/** Which StageSet, as long as it is this one: a namesake created later has another uid. */
export interface StageSetKey {
  readonly namespace: string;
  readonly name: string;
}

/** Inventories written at once. */
const mostAtOnce = 8;
const nothingRecorded: ReadonlyMap<string, RecordedStage> = new Map();

/** What the API server acknowledged about StageSets, and the only writer of it (spec 20 E1, E5). */
export interface Journal {
  /** The StageSet, not older than our own last write. */
  object(key: StageSetKey): KubeObject | undefined;
  stored(object: KubeObject): Stored;
  /**
   * Reads the StageLedger of the StageSet as it is now, which {@link Journal.stored} gives from then on.
   *
   * @throws {KubeError}
   */
  readLedger(key: StageSetKey, signal: AbortSignal): Promise<void>;
  /**
   * Has one record acknowledged. `conflict`: something newer is stored, which {@link Journal.object} shows from now on.
   *
   * @throws {KubeError} any other refusal
   */
  write(object: KubeObject, write: Write, signal: AbortSignal): Promise<"acknowledged" | "conflict" | "gone">;
}

export interface JournalOptions {
  readonly client: KubeClient;
  readonly stageSets: Freshest;
  readonly inventories: InventoryStore;
  readonly ledgers: LedgerStore;
  readonly shardCap: number;
  /** An inventory entry that cannot be read: counted and logged, never fatal (spec 10 §7). */
  readonly onSkipped: (key: StageSetKey, entry: SkippedEntry) => void;
}

export function createJournal(options: JournalOptions): Journal {
  const { client, inventories } = options;
  const recorded = new Map<string, RecordedStages>();
  const read = (object: KubeObject): ReadonlyMap<string, RecordedStage> => {
    const key = { namespace: object.metadata.namespace ?? "", name: object.metadata.name };
    const deleting = object.metadata.deletionTimestamp !== undefined;
    const live = inventories.shards(key.namespace, key.name);
    const shards = deleting ? [...live, ...inventories.lastSeen(key.namespace, key.name)] : live;
    const slot = `${key.namespace}/${key.name}`;
    if (shards.length === 0) {
      recorded.delete(slot);
      return nothingRecorded;
    }
    const stages = recorded.get(slot) ?? createRecordedStages((entry) => options.onSkipped(key, entry));
    recorded.set(slot, stages);
    return stages.read(shards, { deleting });
  };
  const refresh = async (object: KubeObject, signal: AbortSignal): Promise<"conflict" | "gone"> => {
    try {
      const namespace = object.metadata.namespace;
      const live = await client.send(getRequest(stageSets, { namespace, name: object.metadata.name }), { signal });
      options.stageSets.note(asKubeObject(live));
      return "conflict";
    } catch (error) {
      if (!(error instanceof KubeError) || error.reason !== "NotFound") throw error;
      options.stageSets.noteDeleted(object);
      return "gone";
    }
  };
  /** Sends one write of the StageSet itself. */
  const patch = async (
    object: KubeObject,
    send: () => Promise<unknown>,
    signal: AbortSignal,
  ): Promise<"acknowledged" | "conflict" | "gone"> => {
    try {
      options.stageSets.note(asKubeObject(await send()));
      return "acknowledged";
    } catch (error) {
      if (error instanceof KubeError && (error.reason === "Conflict" || error.reason === "NotFound"))
        return refresh(object, signal);
      throw error;
    }
  };
  return {
    object: (key) => options.stageSets.get(key.namespace, key.name),
    stored: (object) => ({
      generation: object.metadata.generation ?? 0,
      hasFinalizer: object.metadata.finalizers?.includes(finalizer) ?? false,
      status: statusOf(object),
      inventory: read(object),
      ledger: options.ledgers.get(object.metadata.namespace ?? "", object.metadata.name),
    }),
    readLedger: (key, signal) => refreshLedger(options, key, signal),
    async write(object, write, signal) {
      switch (write.kind) {
        case "status":
          checkStatus(write.status, object.metadata.generation ?? 0);
          return patch(object, () => client.send(statusRequest(object, write.status), { signal }), signal);
        case "finalizer":
          return patch(object, () => client.send(finalizerRequest(object, write.change), { signal }), signal);
        case "inventory":
          return object.metadata.deletionTimestamp === undefined
            ? writeInventories(options, object, write, signal)
            : shrinkShards(options, object, write, signal);
        case "ledgerCreation":
        case "ledger": {
          const { namespace = "", name } = object.metadata;
          return writeLedger(options, { namespace, name }, write, signal);
        }
        case "inventoryRemoval":
          return writeShards(options, object, { stage: write.stage, record: undefined }, signal);
      }
    },
  };
}

function statusRequest(object: KubeObject, status: StageSetStatus): ReturnType<typeof replaceStatusRequest> {
  const { name, namespace, resourceVersion, uid } = object.metadata;
  return replaceStatusRequest(stageSets, {
    namespace,
    name,
    fieldManager,
    object: {
      apiVersion: object.apiVersion,
      kind: object.kind,
      metadata: { name, namespace, resourceVersion, uid },
      // Without a spec the server's validation of the merged object still uses the stored one.
      status,
    },
  });
}

/** A merge patch of the finalizers alone, so that the generation stays and no field is rewritten (spec 10 §13.1). */
function finalizerRequest(object: KubeObject, change: "add" | "remove"): ReturnType<typeof mergePatchRequest> {
  const { name, namespace, resourceVersion, uid } = object.metadata;
  const others = (object.metadata.finalizers ?? []).filter((entry) => entry !== finalizer);
  const finalizers = change === "add" ? [...others, finalizer] : others;
  return mergePatchRequest(stageSets, {
    namespace,
    name,
    fieldManager,
    patch: { metadata: { finalizers, resourceVersion, uid } },
  });
}

/** The stage's record, and beside it those of later stages, of which only the stage's own must succeed. */
async function writeInventories(
  options: JournalOptions,
  object: KubeObject,
  write: Extract<Write, { kind: "inventory" }>,
  signal: AbortSignal,
): Promise<"acknowledged" | "conflict"> {
  const { ahead = [] } = write;
  const written = await inFlight([write, ...ahead], mostAtOnce, async (record) => {
    try {
      return await writeShards(options, object, { stage: record.stage, record }, signal);
    } catch (error) {
      if (record === write || !(error instanceof KubeError)) throw error;
      return "conflict";
    }
  });
  return written[0] ?? "conflict";
}

/** New and changed shards first; surplus ones go only when what they held is acknowledged elsewhere (spec 20 §8.1). */
async function writeShards(
  options: JournalOptions,
  object: KubeObject,
  /** Without a record every shard of the stage goes. */
  { stage, record }: { readonly stage: string; readonly record: InventoryRecord | undefined },
  signal: AbortSignal,
): Promise<"acknowledged" | "conflict"> {
  const { client, inventories } = options;
  const namespace = object.metadata.namespace ?? "";
  using _writing = inventories.writing(namespace, object.metadata.name);
  const existing = inventories.shardsOf({ namespace, name: object.metadata.name }, stage);
  const plan =
    record === undefined
      ? { create: [], update: [], delete: existing }
      : planShards(
          {
            stageSet: object.metadata.name,
            uid: object.metadata.uid ?? "",
            namespace,
            stage,
            stagePosition: record.position,
            entries: record.entries,
            shardCap: options.shardCap,
            serviceAccount: record.serviceAccount,
            // What is recorded was written there, or is going to be.
            target: targetName(at(object, "spec", "kubeConfig")),
          },
          existing,
        );
  try {
    for (const shard of plan.create)
      inventories.note(
        asKubeObject(
          await client.send(createRequest(stageInventories, { namespace, fieldManager, object: shard }), { signal }),
        ),
      );
    for (const shard of plan.update)
      inventories.note(
        asKubeObject(
          await client.send(
            replaceRequest(stageInventories, { namespace, name: shard.metadata.name, fieldManager, object: shard }),
            { signal },
          ),
        ),
      );
    for (const shard of plan.delete) {
      const { uid, name } = shard.metadata;
      await client
        .send(deleteRequest(stageInventories, { namespace, name, uid, propagation: "Background" }), { signal })
        .catch((error: unknown) => {
          if (!(error instanceof KubeError) || error.reason !== "NotFound") throw error;
        });
      inventories.noteDeleted(shard);
    }
    return "acknowledged";
  } catch (error) {
    if (!(error instanceof KubeError) || !["Conflict", "AlreadyExists", "NotFound"].includes(error.reason)) throw error;
    await refreshShards(options, { namespace, shards: [...plan.create, ...plan.update] }, signal);
    return "conflict";
  }
}

/**
 * Takes ids off the records of a StageSet that is going. Its shards are only ever updated, because nothing can be
 * created in a namespace that is going too, and those already lost are kept up to date here.
 */
async function shrinkShards(
  options: JournalOptions,
  object: KubeObject,
  write: Extract<Write, { kind: "inventory" }>,
  signal: AbortSignal,
): Promise<"acknowledged" | "conflict"> {
  const { client, inventories } = options;
  const { namespace = "", name } = object.metadata;
  const left = new Set(write.entries.map((entry) => entry.id));
  const shrunk = (shard: KubeObject): KubeObject | undefined => {
    if (shard.metadata.labels?.[stageLabel] !== write.stage) return undefined;
    const entries = asArray(at(shard, "spec", "entries"));
    const kept = entries.filter((entry) => left.has(asText(at(entry, "id")) ?? ""));
    return kept.length === entries.length
      ? undefined
      : { ...shard, spec: { ...asObject(shard["spec"]), entries: kept } };
  };
  for (const shard of inventories.lastSeen(namespace, name)) {
    const smaller = shrunk(shard);
    if (smaller !== undefined) inventories.noteMissing(smaller);
  }
  using _writing = inventories.writing(namespace, name);
  for (const shard of inventories.shards(namespace, name)) {
    const smaller = shrunk(shard);
    if (smaller === undefined) continue;
    try {
      const request = replaceRequest(stageInventories, {
        namespace,
        name: shard.metadata.name,
        fieldManager,
        object: smaller,
      });
      inventories.note(asKubeObject(await client.send(request, { signal })));
    } catch (error) {
      if (!(error instanceof KubeError) || !["Conflict", "NotFound"].includes(error.reason)) throw error;
      await refreshShards(options, { namespace, shards: [shard] }, signal);
      return "conflict";
    }
  }
  return "acknowledged";
}

/** Reads the shards a write stumbled over, so that the next plan starts from what is stored. */
async function refreshShards(
  options: JournalOptions,
  { namespace, shards }: { readonly namespace: string; readonly shards: readonly KubeObject[] },
  signal: AbortSignal,
): Promise<void> {
  for (const shard of shards) {
    try {
      const live = await options.client.send(getRequest(stageInventories, { namespace, name: shard.metadata.name }), {
        signal,
      });
      options.inventories.note(asKubeObject(live));
    } catch (error) {
      if (!(error instanceof KubeError) || error.reason !== "NotFound") throw error;
      options.inventories.noteMissing(shard);
    }
  }
}

/** The stored status; whatever is not an object counts as none. */
export function statusOf(object: KubeObject): StageSetStatus {
  // Written only through /status, whose schema the API server enforced; the spec is parsed, see snapshot.ts.
  return asObject(object["status"]) ?? {};
}
