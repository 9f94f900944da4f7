import { apiVersion } from "../api/group.ts";
import { fieldManager } from "../api/keys.ts";
import type { StoredLedger } from "../domain/actions/stage-ledger.ts";
import type { Write } from "../domain/pass/step.ts";
import type { KubeClient } from "../kube/client.ts";
import { isKubeError } from "../kube/error.ts";
import { createRequest, getRequest, replaceStatusRequest } from "../kube/request.ts";
import { asKubeObject } from "./kube-answer.ts";
import type { LedgerStore } from "./ledger-store.ts";
import { stageLedgers } from "./resources.ts";

interface LedgerRecords {
  readonly client: KubeClient;
  readonly ledgers: LedgerStore;
}

interface Key {
  readonly namespace: string;
  readonly name: string;
}

/** Reads the StageLedger as it is stored now. */
export async function refreshLedger({ client, ledgers }: LedgerRecords, key: Key, signal: AbortSignal): Promise<void> {
  try {
    ledgers.note(asKubeObject(await client.send(getRequest(stageLedgers, key), { signal })));
  } catch (error) {
    if (!isKubeError(error, "NotFound")) throw error;
    ledgers.noteMissing(key.namespace, key.name);
  }
}

/**
 * Writes the StageLedger of a StageSet; `conflict`: what is stored is newer, and known from now on.
 *
 * @throws {KubeError} any other refusal
 */
export async function writeLedger(
  records: LedgerRecords,
  key: Key,
  write: Extract<Write, { kind: "ledger" | "ledgerCreation" }>,
  signal: AbortSignal,
): Promise<"acknowledged" | "conflict"> {
  const { client, ledgers } = records;
  const base = { apiVersion, kind: "StageLedger" } as const;
  using _writing = ledgers.writing(key.namespace, key.name);
  const request =
    write.kind === "ledgerCreation"
      ? createRequest(stageLedgers, { namespace: key.namespace, fieldManager, object: { ...base, metadata: key } })
      : replaceStatusRequest(stageLedgers, {
          ...key,
          fieldManager,
          object: { ...base, metadata: { ...key, ...stateOf(write.before) }, status: write.status },
        });
  try {
    ledgers.note(asKubeObject(await client.send(request, { signal })));
    return "acknowledged";
  } catch (error) {
    const overtaken =
      write.kind === "ledger" ? isKubeError(error, "Conflict", "NotFound") : isKubeError(error, "AlreadyExists");
    if (!overtaken) throw error;
    await refreshLedger(records, key, signal);
    return "conflict";
  }
}

/** What the write is about: another object of that name, or a newer state, refuses it. */
function stateOf({ uid, resourceVersion }: StoredLedger): { readonly uid: string; readonly resourceVersion: string } {
  return { uid, resourceVersion };
}
