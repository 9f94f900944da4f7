import { artifactsOf, type SourceTarget } from "../domain/pins.ts";
import { stageReadiness, stageSource, type SourceLookup, type StageReadiness } from "../domain/stage-readiness.ts";
import { sourceResource } from "../engine/flux-sources.ts";
import type { KubeClient } from "../kube/client.ts";
import type { Discovery } from "../kube/discovery.ts";
import { KubeError } from "../kube/error.ts";
import { getRequest, listRequest, type ApiResource } from "../kube/request.ts";
import { deadline } from "../lib/abort.ts";
import type { Clock } from "../lib/clock.ts";
import { createFairLimiter } from "../lib/fair-limiter.ts";
import { asArray, asObject, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { createSemaphore } from "../lib/semaphore.ts";

/** Bounds of confirmations by live reads (spec 40 §8.2). */
const confirmTimeoutMs = 3_000;
const confirmationsPerSecond = 50;
const confirmationBurst = 100;
/**
 * At once, by all namespaces and by one. They are sent beside the requests that are counted, so that a busy engine does
 * not delay them, and must not fill its sockets when the API server is slow.
 */
const confirmationsInFlight = 8;
const confirmationsPerNamespace = 4;
/** Reads of one confirmation at once: its stages may have as many sources as a StageSet has stages. */
const sourceReads = 4;

export interface ConfirmationOptions {
  readonly client: KubeClient;
  readonly discovery: Discovery;
  readonly stageSetResource: ApiResource;
  readonly clock: Clock;
}

/** Which stage is asked about. */
export interface ConfirmationName {
  readonly namespace: string;
  readonly stageSet: string;
  readonly stage: string;
}

/** Answers about stages from live reads that began after they were asked for. */
export interface Confirmations {
  /** `undetermined`: the reads failed, took too long or had no turn in time. */
  confirm(name: ConfirmationName, o: { readonly signal: AbortSignal }): Promise<StageReadiness | "undetermined">;
}

type Answers = ReadonlyMap<string, StageReadiness> | "undetermined";

/** The next read of one StageSet, while it has not begun: whoever asks until then is answered by it. */
interface Batch {
  readonly stages: Set<string>;
  readonly answers: Promise<Answers>;
  /** Those who still wait for it; without any it is not worth a turn. */
  callers: number;
  readonly unwanted: AbortController;
}

/**
 * Requests that wait for the same StageSet share the next read. A read under way is never used: it may have begun
 * before the request. Turns are given to namespaces one after the other, so that a stage that is asked for without pause
 * takes only its own.
 */
export function createConfirmations(options: ConfirmationOptions): Confirmations {
  const { clock } = options;
  const turns = createFairLimiter({
    clock,
    burst: confirmationBurst,
    perSecond: confirmationsPerSecond,
    places: confirmationsInFlight,
    placesPerGroup: confirmationsPerNamespace,
  });
  // The last read of each StageSet that was begun and has not ended; it never rejects.
  const running = new Map<string, Promise<unknown>>();
  const waiting = new Map<string, Batch>();

  const open = (key: string, name: ConfirmationName): Batch => {
    const stages = new Set<string>();
    const unwanted = new AbortController();
    const close = (): void => {
      if (waiting.get(key) === batch) waiting.delete(key);
    };
    const read = async (): Promise<Answers> => {
      try {
        await running.get(key);
        using _turn = await turns.acquire(name.namespace, unwanted.signal);
        close();
        const answers = readAll(options, name, stages);
        const ended = answers.then(
          () => undefined,
          () => undefined,
        );
        running.set(key, ended);
        try {
          return await answers;
        } finally {
          if (running.get(key) === ended) running.delete(key);
        }
      } finally {
        close();
      }
    };
    const batch: Batch = { stages, answers: read(), callers: 0, unwanted };
    batch.answers.catch(() => undefined); // All who wait for it are told; nobody may.
    waiting.set(key, batch);
    return batch;
  };
  return {
    async confirm(name, { signal }) {
      using limit = deadline(clock, { timeoutMs: confirmTimeoutMs, what: "confirming a stage", parent: signal });
      if (limit.signal.aborted) return "undetermined";
      const key = `${name.namespace}/${name.stageSet}`;
      const batch = waiting.get(key) ?? open(key, name);
      batch.stages.add(name.stage);
      batch.callers++;
      const answers = await givenUp(batch.answers, limit.signal);
      if (--batch.callers === 0 && waiting.get(key) === batch) {
        waiting.delete(key);
        batch.unwanted.abort(new Error("nobody waits for it any more"));
      }
      return answers === "undetermined" ? answers : (answers.get(name.stage) ?? "undetermined");
    },
  };
}

/** The value, or `undetermined` when the signal aborts first. */
async function givenUp(value: Promise<Answers>, signal: AbortSignal): Promise<Answers> {
  const { promise, resolve } = Promise.withResolvers<"undetermined">();
  const giveUp = (): void => resolve("undetermined");
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    return await Promise.race([value, promise]);
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
}

/** The StageSet first, then its sources: a revision that arrives between the two closes the gate. */
async function readAll(
  options: ConfirmationOptions,
  { namespace, stageSet }: ConfirmationName,
  stages: ReadonlySet<string>,
): Promise<Answers> {
  using limit = deadline(options.clock, { timeoutMs: confirmTimeoutMs, what: "confirming a stage" });
  const { signal } = limit;
  try {
    const live = await readObject(options, options.stageSetResource, { namespace, name: stageSet }, signal);
    const targets = new Map<string, SourceTarget>();
    if (live !== undefined)
      for (const stage of stages) {
        const target = stageSource(live, stage);
        if (target !== undefined) targets.set(JSON.stringify(target), target);
      }
    const found = new Map<string, KubeObject | undefined>();
    const places = createSemaphore(sourceReads);
    await Promise.all(
      [...targets].map(async ([key, target]) => {
        using _place = await places.acquire(signal);
        found.set(key, await readSource(options, target, signal));
      }),
    );
    const sourceOf: SourceLookup = (target) => found.get(JSON.stringify(target));
    return new Map([...stages].map((stage) => [stage, stageReadiness(live, stage, sourceOf)]));
  } catch (error) {
    if (error instanceof KubeError || signal.aborted) return "undetermined";
    throw error;
  } finally {
    limit.abort(new Error("another read failed")); // What is still under way holds sockets for nobody.
  }
}

async function readSource(
  options: ConfirmationOptions,
  target: SourceTarget,
  signal: AbortSignal,
): Promise<KubeObject | undefined> {
  const kind = target.mode === "direct" ? target.kind : "ExternalArtifact";
  const version = target.mode === "direct" ? target.version : undefined;
  const resource = await sourceResource(options.discovery, { kind, version }, signal);
  if (resource === undefined) return undefined;
  if (target.mode === "direct") return readObject(options, resource, target, signal);
  const list = await options.client.send(listRequest(resource, { namespace: target.namespace }), {
    signal,
    urgent: true,
  });
  const artifacts = asArray(at(list, "items")).flatMap((item) => asKube(resource, item) ?? []);
  const matching = artifactsOf(target, artifacts);
  return matching.length === 1 ? matching[0] : undefined;
}

async function readObject(
  options: ConfirmationOptions,
  resource: ApiResource,
  name: { readonly namespace: string; readonly name: string },
  signal: AbortSignal,
): Promise<KubeObject | undefined> {
  try {
    const request = getRequest(resource, { namespace: name.namespace, name: name.name });
    return asKube(resource, await options.client.send(request, { signal, urgent: true }));
  } catch (error) {
    if (error instanceof KubeError && error.reason === "NotFound") return undefined;
    throw error;
  }
}

/** Items of a list carry no kind of their own. */
function asKube(resource: ApiResource, value: unknown): KubeObject | undefined {
  const object = asObject(value);
  if (object === undefined || asObject(object["metadata"]) === undefined) return undefined;
  const apiVersion = resource.group === "" ? resource.version : `${resource.group}/${resource.version}`;
  // The API server guarantees metadata.name of every object it answers with.
  return { apiVersion, kind: resource.kind, ...object } as unknown as KubeObject;
}
