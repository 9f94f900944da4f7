import { artifactsOf, type SourceTarget } from "../domain/pins.ts";
import {
  stageNames,
  stageReadiness,
  stageSource,
  type SourceLookup,
  type StageReadiness,
} from "../domain/stage-readiness.ts";
import type { CacheHealth, ResourceCache } from "../kube/cache.ts";
import type { KubeClient } from "../kube/client.ts";
import type { Discovery } from "../kube/discovery.ts";
import { KubeError } from "../kube/error.ts";
import { getRequest, listRequest, type ApiResource } from "../kube/request.ts";
import { deadline } from "../lib/abort.ts";
import type { Clock } from "../lib/clock.ts";
import { asArray, asObject, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { MetricLabels } from "../lib/telemetry.ts";
import { sourceResource } from "../engine/flux-sources.ts";

/** What is watched of Flux' sources. */
export interface SourceCaches {
  get(kind: string, namespace: string, name: string): KubeObject | undefined;
  artifacts(namespace: string): readonly KubeObject[];
  health(kind: string): CacheHealth;
}

export interface GateViewOptions {
  readonly client: KubeClient;
  readonly discovery: Discovery;
  readonly stageSetResource: ApiResource;
  readonly stageSets: ResourceCache<KubeObject>;
  readonly sources: SourceCaches;
  /** Undefined: all. */
  readonly namespaces: readonly string[] | undefined;
  readonly clock: Clock;
}

/** Stage readiness for gate and gauge, from this replica's caches and, for open answers, live reads (spec 40 §8.2). */
export interface GateView {
  readiness(
    name: { readonly namespace: string; readonly stageSet: string; readonly stage: string },
    o: { readonly signal: AbortSignal },
  ): Promise<StageReadiness | "undetermined">;
  /** Every stage is ready as far as the caches tell. */
  isReady(stageSet: KubeObject): boolean;
  /** Series of `stageset_stage_ready`; none while the caches cannot be trusted. */
  series(): Iterable<readonly [MetricLabels, number]>;
}

/** Bounds of confirmations by live reads (spec 40 §8.2). */
const confirmTimeoutMs = 3_000;
const confirmationsPerSecond = 50;
const confirmationBurst = 100;

export function createGateView(options: GateViewOptions): GateView {
  const { stageSets, sources, clock, namespaces } = options;
  const scope = namespaces === undefined ? undefined : new Set(namespaces);
  const budget = createBudget(clock);
  const confirmations = createConfirmations(options);

  /** Undefined: the caches cannot tell. */
  const cached = (stageSet: KubeObject | undefined, stage: string): StageReadiness | undefined => {
    if (stageSets.health() !== "fresh") return undefined;
    const sourceTrust = { fresh: true };
    const answer = stageReadiness(stageSet, stage, (target) => {
      const inScope = scope === undefined || scope.has(target.namespace);
      const kind = target.mode === "direct" ? target.kind : "ExternalArtifact";
      if (!inScope || sources.health(kind) !== "fresh") sourceTrust.fresh = false;
      return cachedSource(sources, target);
    });
    return sourceTrust.fresh ? answer : undefined;
  };
  return {
    async readiness({ namespace, stageSet, stage }, { signal }) {
      if (scope !== undefined && !scope.has(namespace)) return stageReadiness(undefined, stage, () => undefined);
      const answer = cached(stageSets.get(namespace, stageSet), stage);
      if (answer?.kind === "closed") return answer;
      using limit = deadline(clock, { timeoutMs: confirmTimeoutMs, what: "confirming a stage", parent: signal });
      return await confirmations.confirm(
        { namespace, stageSet, stage },
        { signal: limit.signal, mayRead: () => budget.take() },
      );
    },
    isReady: (stageSet) => stageNames(stageSet).every((stage) => cached(stageSet, stage)?.kind === "ready"),
    *series() {
      for (const stageSet of stageSets.list()) {
        const namespace = stageSet.metadata.namespace ?? "";
        for (const stage of stageNames(stageSet)) {
          const answer = cached(stageSet, stage);
          if (answer === undefined) continue;
          yield [{ namespace, stageset: stageSet.metadata.name, stage }, answer.kind === "ready" ? 1 : 0];
        }
      }
    },
  };
}

function cachedSource(sources: SourceCaches, target: SourceTarget): KubeObject | undefined {
  if (target.mode === "direct") return sources.get(target.kind, target.namespace, target.name);
  const matching = artifactsOf(target, sources.artifacts(target.namespace));
  return matching.length === 1 ? matching[0] : undefined;
}

/** A token bucket over confirmations. */
function createBudget(clock: Clock): { take(): boolean } {
  let tokens = confirmationBurst;
  let at = clock.monotonic();
  return {
    take() {
      const now = clock.monotonic();
      tokens = Math.min(confirmationBurst, tokens + ((now - at) * confirmationsPerSecond) / 1_000);
      at = now;
      if (tokens < 1) return false;
      tokens--;
      return true;
    },
  };
}

interface Confirmation {
  readonly namespace: string;
  readonly stageSet: string;
  readonly stage: string;
}

/** Live answers for the stages of one StageSet, all from reads that began together. */
interface Batch {
  readonly stages: Set<string>;
  readonly answers: Promise<ReadonlyMap<string, StageReadiness> | "undetermined">;
}

/**
 * Requests that wait for the same StageSet share the next read. A read under way is never used: it may have begun
 * before the request.
 */
function createConfirmations(options: GateViewOptions): {
  confirm(
    name: Confirmation,
    o: { readonly signal: AbortSignal; readonly mayRead: () => boolean },
  ): Promise<StageReadiness | "undetermined">;
} {
  const running = new Map<string, Promise<unknown>>();
  const waiting = new Map<string, Batch>();
  const open = (key: string, name: Confirmation): Batch => {
    const stages = new Set<string>();
    const answers = (running.get(key) ?? Promise.resolve()).then(async () => {
      waiting.delete(key);
      const read = readAll(options, name, stages);
      const ended = read.then(
        () => undefined,
        () => undefined,
      );
      running.set(key, ended);
      try {
        return await read;
      } finally {
        if (running.get(key) === ended) running.delete(key);
      }
    });
    const batch = { stages, answers };
    waiting.set(key, batch);
    return batch;
  };
  return {
    async confirm(name, { signal, mayRead }) {
      const key = `${name.namespace}/${name.stageSet}`;
      let batch = waiting.get(key);
      if (batch === undefined) {
        if (!mayRead()) return "undetermined";
        batch = open(key, name);
      }
      batch.stages.add(name.stage);
      const answers = await givenUp(batch.answers, signal);
      return answers === "undetermined" ? answers : (answers.get(name.stage) ?? "undetermined");
    },
  };
}

/** The value, or `undetermined` when the signal aborts first. */
async function givenUp<T>(value: Promise<T>, signal: AbortSignal): Promise<T | "undetermined"> {
  const { promise, resolve } = Promise.withResolvers<"undetermined">();
  const giveUp = (): void => resolve("undetermined");
  if (signal.aborted) return "undetermined";
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    return await Promise.race([value, promise]);
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
}

/** The StageSet first, then its sources: a revision that arrives between the two closes the gate. */
async function readAll(
  options: GateViewOptions,
  { namespace, stageSet }: Confirmation,
  stages: ReadonlySet<string>,
): Promise<ReadonlyMap<string, StageReadiness> | "undetermined"> {
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
    await Promise.all(
      [...targets].map(async ([key, target]) => found.set(key, await readSource(options, target, signal))),
    );
    const sourceOf: SourceLookup = (target) => found.get(JSON.stringify(target));
    return new Map([...stages].map((stage) => [stage, stageReadiness(live, stage, sourceOf)]));
  } catch (error) {
    if (error instanceof KubeError || signal.aborted) return "undetermined";
    throw error;
  }
}

async function readSource(
  options: GateViewOptions,
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
  options: GateViewOptions,
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
