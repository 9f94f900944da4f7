import { finalizer } from "../api/keys.ts";
import { asKubeObject } from "../engine/kube-answer.ts";
import { stageSets } from "../engine/resources.ts";
import { KubeError } from "../kube/error.ts";
import { deleteRequest, getRequest, jsonPatchRequest, listRequest, type ObjectName } from "../kube/request.ts";
import { sleep } from "../lib/clock.ts";
import { asArray, asText, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { CommandFailed, exitCodes, type CommandIo } from "./command-io.ts";
import { openHub, type Hub, type HubFlags } from "./hub.ts";

export interface CleanupFlags extends HubFlags {
  /** `Orphan`: the StageSets go, what they applied stays. `Delete`: their teardown deletes it first. */
  readonly policy: "Orphan" | "Delete";
  /** Namespaces; empty = all. */
  readonly namespaces: readonly string[];
  /** How long to wait until all are gone, ms; 0 = without limit. */
  readonly timeoutMs: number;
}

/** A page of a list. */
const pageSize = 200;
const lookEveryMs = 1_000;
/** Edits that meet another writer's are made again this often. */
const mostTries = 5;

/**
 * `stagesetctl cleanup`: takes every StageSet in scope away, for who uninstalls the controller.
 *
 * @throws {CommandFailed} a StageSet cannot be changed, or some are still there when the time is over
 */
export async function runCleanup(flags: CleanupFlags, io: CommandIo): Promise<number> {
  await using hub = await openHub(flags, io);
  const began = io.clock.monotonic();
  const scopes = flags.namespaces.length === 0 ? [undefined] : flags.namespaces;
  for (;;) {
    const found = (await Promise.all(scopes.map((namespace) => listAll(hub, namespace, io)))).flat();
    if (found.length === 0) {
      io.out("no StageSet is left\n");
      return exitCodes.done;
    }
    for (const name of found) await takeAway(hub, { name, policy: flags.policy }, io);
    if (flags.timeoutMs > 0 && io.clock.monotonic() - began > flags.timeoutMs) {
      const names = found.slice(0, 10).map(({ namespace, name }) => `${namespace ?? ""}/${name}`);
      throw new CommandFailed(`Cannot clean up: ${found.length} StageSets are still there: ${names.join(", ")}`);
    }
    await sleep(io.clock, lookEveryMs, io.signal);
  }
}

async function listAll(hub: Hub, namespace: string | undefined, { signal }: CommandIo): Promise<readonly ObjectName[]> {
  const names: ObjectName[] = [];
  let next: string | undefined;
  do {
    const request = listRequest(stageSets, { namespace, limit: pageSize, continue: next, metadataOnly: true });
    const page = await told(() => hub.client.send(request, { signal }), "list StageSets");
    for (const item of asArray(at(page, "items"))) {
      const name = asText(at(item, "metadata", "name"));
      if (name !== undefined) names.push({ namespace: asText(at(item, "metadata", "namespace")), name });
    }
    next = asText(at(page, "metadata", "continue")) || undefined;
  } while (next !== undefined);
  return names;
}

/** Idempotent: each call does what is left to do. */
async function takeAway(
  hub: Hub,
  { name, policy }: { readonly name: ObjectName; readonly policy: CleanupFlags["policy"] },
  io: CommandIo,
): Promise<void> {
  const { signal } = io;
  const what = `${name.namespace ?? ""}/${name.name}`;
  for (let attempt = 1; ; attempt++) {
    try {
      const stageSet = asKubeObject(await hub.client.send(getRequest(stageSets, name), { signal }));
      // Nothing may be deleted by a teardown that begins between the deletion and the end of the finalizer.
      const operations = policy === "Orphan" ? keepOperations(stageSet) : [];
      if (operations.length > 0)
        await hub.client.send(jsonPatchRequest(stageSets, { ...name, operations }), { signal });
      if (stageSet.metadata.deletionTimestamp === undefined) {
        await hub.client.send(deleteRequest(stageSets, { ...name, propagation: "Background" }), { signal });
        io.out(`${what}: ${policy === "Orphan" ? "orphaned" : "deletion requested"}\n`);
      }
      if (policy === "Orphan") await dropFinalizer(hub, name, io);
      return;
    } catch (error) {
      if (!(error instanceof KubeError)) throw error;
      if (error.reason === "NotFound") return;
      const mayHelp = error.retry === "backoff" || error.reason === "Conflict" || error.reason === "Invalid";
      if (!mayHelp || attempt >= mostTries)
        throw new CommandFailed(`Cannot take ${what} away: ${error.message}`, { cause: error });
      await sleep(io.clock, lookEveryMs, signal);
    }
  }
}

/** Says of every stage that its objects stay. The tests fail the patch, when the stages are no longer those. */
function keepOperations(stageSet: KubeObject): readonly unknown[] {
  return asArray(at(stageSet, "spec", "stages")).flatMap((stage, index) =>
    at(stage, "prune") === false
      ? []
      : [
          { op: "test", path: `/spec/stages/${index}/name`, value: at(stage, "name") },
          { op: "add", path: `/spec/stages/${index}/prune`, value: false },
        ],
  );
}

async function dropFinalizer(hub: Hub, name: ObjectName, { signal }: CommandIo): Promise<void> {
  const stageSet = asKubeObject(await hub.client.send(getRequest(stageSets, name), { signal }));
  const index = (stageSet.metadata.finalizers ?? []).indexOf(finalizer);
  if (index < 0) return;
  const path = `/metadata/finalizers/${index}`;
  const operations = [
    { op: "test", path, value: finalizer },
    { op: "remove", path },
  ];
  await hub.client.send(jsonPatchRequest(stageSets, { ...name, operations }), { signal });
}

async function told<T>(call: () => Promise<T>, what: string): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (error instanceof KubeError) throw new CommandFailed(`Cannot ${what}: ${error.message}`, { cause: error });
    throw error;
  }
}
