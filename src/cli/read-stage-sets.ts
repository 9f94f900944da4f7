import { asKubeObject } from "../engine/kube-answer.ts";
import { stageSets } from "../engine/resources.ts";
import { KubeError } from "../kube/error.ts";
import { createPageFollower } from "../kube/pages.ts";
import { getRequest, listRequest } from "../kube/request.ts";
import { asArray, asObject, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { CommandFailed, type CommandIo } from "./command-io.ts";
import type { Hub } from "./hub.ts";

const pageSize = 500;

/** A StageSet, and the API server's time when it answered, epoch ms. */
export interface ReadStageSet {
  readonly stageSet: KubeObject;
  readonly now: number;
}

/** @throws {CommandFailed} there is none, or it cannot be read */
export async function readStageSet(
  hub: Hub,
  { namespace, name }: { readonly namespace: string; readonly name: string },
  io: CommandIo,
): Promise<ReadStageSet> {
  let now = io.clock.now();
  const onAnswer = ({ dateMs }: { readonly dateMs?: number }): void => {
    now = dateMs ?? now;
  };
  try {
    const request = getRequest(stageSets, { namespace, name });
    return { stageSet: asKubeObject(await hub.client.send(request, { signal: io.signal, onAnswer })), now };
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    if (error.reason !== "NotFound")
      throw new CommandFailed(`Cannot read StageSet "${namespace}/${name}": ${error.message}`, { cause: error });
    // Where the kind itself is not served, lists say so.
    await listStageSets(hub, { namespace, limit: 1 }, io);
    throw new CommandFailed(`StageSet "${namespace}/${name}" not found`, { cause: error });
  }
}

/** All pages, sorted by namespace, then name. @throws {CommandFailed} they cannot be listed */
export async function listStageSets(
  hub: Hub,
  scope: {
    readonly namespace: string | undefined;
    readonly labelSelector?: string | undefined;
    readonly limit?: number;
  },
  io: CommandIo,
): Promise<readonly KubeObject[]> {
  const found: KubeObject[] = [];
  const follow = createPageFollower("StageSets");
  let next: string | undefined;
  try {
    do {
      const request = listRequest(stageSets, { ...scope, limit: scope.limit ?? pageSize, continue: next });
      const page = await hub.client.send(request, { signal: io.signal });
      const typed = { apiVersion: `${stageSets.group}/${stageSets.version}`, kind: stageSets.kind };
      found.push(...asArray(at(page, "items")).map((item) => asKubeObject({ ...typed, ...asObject(item) })));
      next = scope.limit === undefined ? follow(page) : undefined;
    } while (next !== undefined);
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    if (error.reason === "NotFound")
      throw new CommandFailed("StageSet is not served by this cluster: install the definitions in config/crd", {
        cause: error,
      });
    throw new CommandFailed(`Cannot list StageSets: ${error.message}`, { cause: error });
  }
  return found.sort(
    (a, b) => compare(a.metadata.namespace, b.metadata.namespace) || compare(a.metadata.name, b.metadata.name),
  );
}

function compare(a = "", b = ""): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
