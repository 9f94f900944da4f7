import { asArray, asText, at } from "../lib/json.ts";
import { sleep, type Clock } from "../lib/clock.ts";
import { jitter, type Random } from "../lib/random.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { KubeClient } from "../kube/client.ts";
import { KubeError } from "../kube/error.ts";
import { listRequest, type ApiResource } from "../kube/request.ts";
import { asKubeObject } from "./kube-answer.ts";
import { stageInventories, stageLedgers, stageSets } from "./resources.ts";

const pageSize = 500;
const longestBackoffMs = 10_000;

export interface CatchUpOptions {
  readonly client: KubeClient;
  /** Undefined: all. */
  readonly namespaces: readonly string[] | undefined;
  readonly stageSets: { note(object: KubeObject): void };
  readonly inventories: { note(object: KubeObject): void };
  readonly ledgers: { note(object: KubeObject): void };
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/**
 * Reads StageSets, inventories and ledgers as they are stored now. A watch may lag behind what the leader before us recorded, and
 * who does not know the newest inventory takes a StageSet for torn down whose objects are still there. Tried until it
 * succeeds.
 *
 * @throws the signal's reason
 */
export async function catchUp(options: CatchUpOptions, signal: AbortSignal): Promise<void> {
  for (const namespace of options.namespaces ?? [undefined]) {
    await readAll(options, { resource: stageSets, namespace, into: options.stageSets }, signal);
    await readAll(options, { resource: stageInventories, namespace, into: options.inventories }, signal);
    await readAll(options, { resource: stageLedgers, namespace, into: options.ledgers }, signal);
  }
}

interface Reading {
  readonly resource: ApiResource;
  readonly namespace: string | undefined;
  readonly into: { note(object: KubeObject): void };
}

async function readAll(options: CatchUpOptions, reading: Reading, signal: AbortSignal): Promise<void> {
  const { clock, random, logger } = options;
  let next: string | undefined;
  for (let failures = 0; ;) {
    try {
      const page = await options.client.send(
        listRequest(reading.resource, { namespace: reading.namespace, limit: pageSize, continue: next }),
        { signal },
      );
      for (const item of asArray(at(page, "items"))) reading.into.note(asKubeObject(item));
      next = asText(at(page, "metadata", "continue"));
      if (next === undefined || next === "") return;
    } catch (error) {
      if (!(error instanceof KubeError)) throw error;
      next = undefined;
      failures++;
      logger.warn("cannot read what is stored; trying again", { resource: reading.resource.plural, error });
      await sleep(clock, jitter(Math.min(longestBackoffMs, 250 * 2 ** failures), 0.2, random), signal);
    }
  }
}
