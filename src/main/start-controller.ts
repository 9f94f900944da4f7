import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { inventoryStageSetLabel } from "../api/keys.ts";
import { createComputePool } from "../compute/pool.ts";
import { watchAccountUsage } from "../controller/account-usage.ts";
import { createGateView, type GateView } from "../controller/gate-view.ts";
import { startSourceWatches, type SourceWatches } from "../controller/source-watches.ts";
import { createStageSetController, type StageSetController } from "../controller/stage-set-controller.ts";
import type { DependencyView } from "../domain/dependencies.ts";
import { readyCondition } from "../domain/status.ts";
import type { Engine } from "../engine/engine.ts";
import { createCel } from "../engine/facts/cel.ts";
import { createRenderCache } from "../engine/facts/render-cache.ts";
import { createFreshest } from "../engine/freshest.ts";
import { createInventoryStore } from "../engine/inventory-store.ts";
import { asKubeObject, createJournal, statusOf, type StageSetKey } from "../engine/journal.ts";
import { createObserver } from "../engine/observer.ts";
import { stageInventories, stageSets as stageSetResource } from "../engine/resources.ts";
import { createGate } from "../http/gate.ts";
import { createHealth } from "../http/health.ts";
import { createMetricsHandler } from "../http/metrics.ts";
import { listen, type Listener } from "../http/server.ts";
import { createAccessProvider } from "../identity/access.ts";
import { startCache, type ResourceCache } from "../kube/cache.ts";
import { createKubeClient, type KubeClient } from "../kube/client.ts";
import { loadKubeConfig, type LoadedCluster } from "../kube/endpoint.ts";
import { KubeError } from "../kube/error.ts";
import { createEventRecorder } from "../kube/events.ts";
import { runLease } from "../kube/lease.ts";
import { getRequest, type ApiResource } from "../kube/request.ts";
import { createTransports } from "../kube/transport.ts";
import { sleep, systemClock, type Clock } from "../lib/clock.ts";
import { asArray, asText, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { systemRandom, type Random } from "../lib/random.ts";
import type { Logger } from "../lib/telemetry.ts";
import { createMetrics, type Metrics } from "../observe/metrics.ts";
import { createGuardedFetch } from "../outbound/guard.ts";
import { createArtifactStore } from "../source/artifact-store.ts";
import type { Config } from "./config.ts";
import { bindPatiently, type PatientListener } from "./listeners.ts";
import { reportPrerequisites } from "./prerequisites.ts";
import { createReports, reportingController } from "./reports.ts";
import { version } from "./version.ts";
import { wasmModules } from "./wasm-modules.ts";

/** The process cannot go on: exit code 1. */
export class StartError extends Error {
  override name = "StartError";
}

export interface StartOptions {
  readonly config: Config;
  readonly logger: Logger;
  readonly clock?: Clock;
  readonly random?: Random;
  /** Default: found as spec 60 §1 says. */
  readonly cluster?: LoadedCluster;
  /** How long the gate goes on answering after the stop began, ms; default 5,000. */
  readonly drainMs?: number;
}

/** The controller while it runs. Disposing stops it as spec 60 §1 says. */
export interface RunningController extends AsyncDisposable {
  /** Ports that are bound now. */
  ports(): { readonly gate?: number; readonly health?: number; readonly metrics?: number };
  isReady(): boolean;
  /** Resolves with the reason when the lease is lost: nothing may be written any more. */
  readonly leadershipLost: Promise<string>;
}

const leaseName = "stageset-controller.stages.metio.wtf";
const renderCacheBytes = 64 * 1024 * 1024;
const ledgers: ApiResource = { ...stageSetResource, kind: "StageLedger", plural: "stageledgers" };
const fleets: ApiResource = { ...stageSetResource, kind: "FleetRollout", plural: "fleetrollouts", namespaced: false };

/**
 * Starts everything, in the order of spec 60 §1. A missing CRD or permission does not fail it: it is reported until met.
 *
 * @throws {StartError} no kubeconfig, or a listener that cannot bind
 */
export async function startController(options: StartOptions): Promise<RunningController> {
  await using stack = new AsyncDisposableStack();
  const { config, logger } = options;
  const clock = options.clock ?? systemClock;
  const random = options.random ?? systemRandom;
  const cluster = options.cluster ?? (await loadCluster(config));
  const metrics = createMetrics({ version, commit: "unknown", workers: config.concurrency });
  if (config.allowLoopback) logger.warn("--dev-allow-loopback is on: artifacts may come from loopback");

  const leadership = { mayWrite: (): boolean => false };
  const transports = stack.use(createTransports({ clock }));
  const userAgent = `stageset-controller/${version}`;
  const shared = { endpoint: cluster.endpoint, credential: cluster.credential, transports, clock, userAgent };
  const access = stack.use(
    createAccessProvider({ ...shared, requests: metrics.requests, mayWrite: () => leadership.mayWrite() }),
  );
  const unguarded = stack.use(createKubeClient({ ...shared, identity: "controller" }));

  const health: { stopping: boolean; ready: () => boolean; gate: () => boolean } = {
    stopping: false,
    ready: () => false,
    gate: () => config.gate === undefined,
  };
  const fixed = await openFixedListeners(stack, { config, metrics, health, clock, logger });

  const caches = startCaches(stack, { client: unguarded, config, clock, logger });
  const events = stack.use(
    createEventRecorder({
      client: access.controller.client,
      clock,
      random,
      logger,
      reportingController,
      reportingInstance: hostname(),
    }),
  );
  const reports = createReports({ events, metrics, logger });
  const late: { controller?: StageSetController; engine?: Engine } = {};
  const sources = stack.use(
    startSourceWatches({
      client: unguarded,
      namespaces: config.namespaces,
      clock,
      logger,
      failures: metrics.watchFailures,
      onSource: (source) => late.controller?.onSource(source),
      onProducer: (kind, object) => late.controller?.onProducer(kind, object),
      onKinds: () => access.controller.discovery.invalidate(),
    }),
  );
  const gateView = createGateView({
    client: unguarded,
    discovery: access.controller.discovery,
    stageSetResource,
    stageSets: caches.stageSets,
    sources,
    namespaces: config.namespaces,
    clock,
  });
  metrics.stageReady(() => gateView.series());
  const controller = createStageSetController({
    engine: () => {
      if (late.engine === undefined) throw new Error("the engine is not built yet");
      return late.engine;
    },
    stageSets: caches.stageSets,
    concurrency: config.concurrency,
    clock,
    random,
    logger,
    snapshot: { crossNamespace: config.crossNamespace, allowLoopback: config.allowLoopback },
    defaultIntervalMs: config.defaultIntervalMs,
    onProducerKinds: (kinds) => sources.refer(kinds),
    reports,
    isReady: (stageSet) => gateView.isReady(stageSet),
  });
  late.controller = controller;
  metrics.queue(() => controller.queue);
  stack.use(
    watchAccountUsage(caches.stageSets, {
      defaultServiceAccount: config.defaultServiceAccount,
      release: (namespace, name) => access.release(namespace, name),
    }),
  );
  late.engine = await buildEngine(stack, {
    config,
    clock,
    random,
    logger,
    access,
    caches,
    controller,
    reports,
    metrics,
  });

  const abort = new AbortController();
  const kinds = [caches.stageSets, caches.inventories, caches.ledgers, caches.fleets];
  const synced = Promise.all([
    ...kinds.map((cache) => cache.whenSynced(abort.signal)),
    sources.whenSynced(abort.signal),
  ]);
  synced.catch(() => undefined);
  const gate = bindGate(stack, { config, gateView, metrics, clock, logger, when: synced });
  health.gate = () => gate === undefined || gate.isListening();
  health.ready = () => kinds.every((cache) => cache.synced);
  stack.use(
    reportPrerequisites({
      kinds: [
        { resource: "stagesets.stages.metio.wtf", cache: caches.stageSets },
        { resource: "stageinventories.stages.metio.wtf", cache: caches.inventories },
        { resource: "stageledgers.stages.metio.wtf", cache: caches.ledgers },
        { resource: "fleetrollouts.stages.metio.wtf", cache: caches.fleets },
      ],
      clock,
      logger,
    }),
  );

  const leading = lead({ config, cluster, client: unguarded, clock, random, logger, metrics, leadership });
  const working = (async () => {
    await synced;
    await leading.acquired;
    if (!abort.signal.aborted) controller.start();
  })();
  working.catch((error: unknown) => {
    if (!abort.signal.aborted) logger.error("cannot start working", { error });
  });
  const running = stack.move();
  return {
    ports: () => ({
      ...portOf("gate", gate?.port()),
      ...portOf("health", fixed.health?.address.port),
      ...portOf("metrics", fixed.metrics?.address.port),
    }),
    isReady: () => health.ready() && health.gate() && !health.stopping,
    leadershipLost: leading.lost,
    async [Symbol.asyncDispose]() {
      health.stopping = true;
      const began = clock.monotonic();
      abort.abort(new Error("stopping"));
      await controller.stop();
      await events.flush({ signal: AbortSignal.timeout(1_000) }).catch(() => undefined);
      await leading.release();
      const left = (options.drainMs ?? 5_000) - (clock.monotonic() - began);
      if (left > 0) await sleep(clock, left);
      await running.disposeAsync();
    },
  };
}

function portOf(name: string, port: number | undefined): Readonly<Record<string, number>> {
  return port === undefined ? {} : { [name]: port };
}

async function loadCluster(config: Config): Promise<LoadedCluster> {
  try {
    return await loadKubeConfig({ flag: config.kubeconfig, env: config.env });
  } catch (error) {
    throw new StartError(`Cannot find an API server: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

async function openFixedListeners(
  stack: AsyncDisposableStack,
  options: {
    readonly config: Config;
    readonly metrics: Metrics;
    readonly health: { readonly stopping: boolean; readonly ready: () => boolean; readonly gate: () => boolean };
    readonly clock: Clock;
    readonly logger: Logger;
  },
): Promise<{ readonly health: Listener | undefined; readonly metrics: Listener | undefined }> {
  const { config, health, clock, logger } = options;
  const checks = {
    live: [{ name: "ping", isHealthy: () => true }],
    ready: [
      { name: "ping", isHealthy: () => true },
      { name: "informers", isHealthy: () => health.ready() },
      { name: "gate", isHealthy: () => health.gate() },
      { name: "shutdown", isHealthy: () => !health.stopping },
    ],
  };
  const open = async (name: "health" | "metrics"): Promise<Listener | undefined> => {
    const address = config[name];
    if (address === undefined) return undefined;
    const handler = name === "health" ? createHealth(checks) : createMetricsHandler(options.metrics);
    try {
      return stack.use(await listen({ ...address, handler, clock, logger }));
    } catch (error) {
      const where = `${address.host ?? ""}:${address.port}`;
      throw new StartError(`Cannot listen on "${where}" for ${name}: ${error instanceof Error ? error.message : ""}`, {
        cause: error,
      });
    }
  };
  return { health: await open("health"), metrics: await open("metrics") };
}

interface Caches {
  readonly stageSets: ResourceCache<KubeObject>;
  readonly inventories: ResourceCache<KubeObject>;
  readonly ledgers: ResourceCache<undefined>;
  readonly fleets: ResourceCache<undefined>;
}

/** Watches of our own kinds; of the last two only their presence matters so far. */
function startCaches(
  stack: AsyncDisposableStack,
  options: { readonly client: KubeClient; readonly config: Config; readonly clock: Clock; readonly logger: Logger },
): Caches {
  const { client, config, clock, logger } = options;
  const base = { client, clock, logger };
  const scoped = { ...base, namespaces: config.namespaces };
  const nothing = (): undefined => undefined;
  return {
    stageSets: stack.use(startCache({ ...scoped, resource: stageSetResource, project: withoutManagedFields })),
    inventories: stack.use(startCache({ ...scoped, resource: stageInventories, project: withoutManagedFields })),
    ledgers: stack.use(startCache({ ...scoped, resource: ledgers, project: nothing, metadataOnly: true })),
    fleets: stack.use(startCache({ ...base, resource: fleets, project: nothing, metadataOnly: true })),
  };
}

function withoutManagedFields(object: KubeObject): KubeObject {
  const { managedFields: _managedFields, ...metadata } = object.metadata;
  return { ...object, metadata };
}

async function buildEngine(
  stack: AsyncDisposableStack,
  parts: {
    readonly config: Config;
    readonly clock: Clock;
    readonly random: Random;
    readonly logger: Logger;
    readonly access: Engine["access"];
    readonly caches: Caches;
    readonly controller: StageSetController;
    readonly reports: Engine["reports"];
    readonly metrics: Metrics;
  },
): Promise<Engine> {
  const { config, clock, random, logger, access, caches, controller, metrics } = parts;
  const stageSets = stack.use(createFreshest(caches.stageSets));
  const inventories = stack.use(createInventoryStore(caches.inventories, caches.stageSets));
  const modules = wasmModules((line) => logger.info(line));
  const workerUrl = new URL(import.meta.url.endsWith(".ts") ? "./worker.ts" : "./worker.js", import.meta.url);
  const compute = stack.use(createComputePool({ clock, workerUrl }));
  // Expressions have workers of their own: no build delays them, and none of them a build.
  const expressions = stack.use(createComputePool({ clock, workerUrl, size: 2 }));
  const dir = await mkdtemp(join(tmpdir(), "stageset-artifacts-"));
  stack.defer(() => rm(dir, { recursive: true, force: true }));
  const fetch = createGuardedFetch({ allowLoopback: config.allowLoopback, clock });
  const artifacts = stack.use(createArtifactStore({ dir, fetch, clock }));
  const observer = stack.use(createObserver({ clock, logger, wake: (key) => controller.wake(key, "readiness") }));
  watchInventories(caches.inventories, { inventories, controller });
  return {
    clock,
    random,
    logger,
    options: {
      defaultIntervalMs: config.defaultIntervalMs,
      crossNamespace: config.crossNamespace,
      requireServiceAccount: config.requireServiceAccount,
      defaultServiceAccount: config.defaultServiceAccount,
      maxTeardownWaitMs: config.maxTeardownWaitMs,
      runbookLink: (reason) => config.runbookBaseUrl?.replaceAll("{id}", runbookPage(reason)),
    },
    access,
    journal: createJournal({
      client: access.controller.client,
      stageSets,
      inventories,
      shardCap: config.shardCap,
      onSkipped: (key, entry) => {
        metrics.inventorySkipped.add({ namespace: key.namespace, stageset: key.name, stage: entry.stage });
        logger.warn("inventory entry skipped", { ...key, stage: entry.stage, shard: entry.shard, entry: entry.id });
      },
    }),
    artifacts,
    compute,
    cel: createCel({ compute: expressions, module: modules.cel }),
    kustomize: modules.kustomize,
    renders: createRenderCache({ maxBytes: renderCacheBytes }),
    observer,
    reports: parts.reports,
    dependency: (key, o) => readDependency({ client: access.controller.client, stageSets, config }, key, o),
    sharers: (namespace, name) => countSharers(caches.stageSets, { namespace, name, config }),
    recordedElsewhere: (key, id) => isRecordedElsewhere(caches.inventories, key, id),
    session: (key) => controller.session(key),
  };
}

/** The id of a reason's runbook page: `StageFailed` → `stage-failed`. */
function runbookPage(reason: string): string {
  return reason.replace(/([a-z])([A-Z])/g, "$1-$2").toLowerCase();
}

function watchInventories(
  cache: ResourceCache<KubeObject>,
  {
    inventories,
    controller,
  }: {
    readonly inventories: { judge(shard: KubeObject, foreign: () => void): void };
    readonly controller: StageSetController;
  },
): void {
  cache.subscribe(({ object, namespace }) => {
    const name = object.metadata.labels?.[inventoryStageSetLabel];
    if (name !== undefined) inventories.judge(object, () => controller.onInventory({ namespace, name }));
  });
}

/** Dependencies in watched namespaces come from what we know, others are read. */
async function readDependency(
  from: {
    readonly client: KubeClient;
    readonly stageSets: { get(namespace: string, name: string): KubeObject | undefined };
    readonly config: Config;
  },
  key: StageSetKey,
  { signal }: { readonly signal: AbortSignal },
): Promise<DependencyView | undefined> {
  const { namespaces } = from.config;
  if (namespaces === undefined || namespaces.includes(key.namespace)) {
    const known = from.stageSets.get(key.namespace, key.name);
    return known === undefined ? undefined : dependencyView(known);
  }
  try {
    return dependencyView(asKubeObject(await from.client.send(getRequest(stageSetResource, key), { signal })));
  } catch (error) {
    if (error instanceof KubeError) return undefined;
    throw error;
  }
}

function dependencyView(stageSet: KubeObject): DependencyView {
  const status = statusOf(stageSet);
  const own = stageSet.metadata.namespace ?? "";
  const freeze = status.budgetFreeze;
  return {
    generation: stageSet.metadata.generation ?? 0,
    observedGeneration: status.observedGeneration,
    ready: readyCondition(status)?.status === "True",
    version: status.version,
    holdsRevision:
      Object.keys(status.pendingUpdate?.revisions ?? {}).length > 0 || (freeze !== undefined && freeze.dryRun !== true),
    dependsOn: asArray(at(stageSet, "spec", "dependsOn")).flatMap((dependency) => {
      const name = asText(at(dependency, "name"));
      return name === undefined ? [] : [{ namespace: asText(at(dependency, "namespace")) ?? own, name }];
    }),
  };
}

function countSharers(
  cache: ResourceCache<KubeObject>,
  { namespace, name, config }: { readonly namespace: string; readonly name: string; readonly config: Config },
): number {
  let count = 0;
  for (const stageSet of cache.list()) {
    if (stageSet.metadata.namespace !== namespace) continue;
    const own = asText(at(stageSet, "spec", "serviceAccountName")) ?? config.defaultServiceAccount;
    if (own === name) count++;
  }
  return count;
}

function isRecordedElsewhere(cache: ResourceCache<KubeObject>, key: StageSetKey, id: string): boolean {
  return cache.list().some((shard) => {
    const owner = shard.metadata.labels?.[inventoryStageSetLabel];
    if (shard.metadata.namespace === key.namespace && owner === key.name) return false;
    return asArray(at(shard, "spec", "entries")).some((entry) => at(entry, "id") === id);
  });
}

function bindGate(
  stack: AsyncDisposableStack,
  options: {
    readonly config: Config;
    readonly gateView: GateView;
    readonly metrics: Metrics;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly when: Promise<unknown>;
  },
): PatientListener | undefined {
  const { config, clock, metrics } = options;
  if (config.gate === undefined) return undefined;
  const logger = options.logger.with({ logger: "gate" });
  const handler = createGate({ view: options.gateView, requests: metrics.gateRequests, logger, clock });
  return stack.use(bindPatiently({ address: config.gate, handler, when: options.when, clock, logger }));
}

interface Leading {
  readonly acquired: Promise<void>;
  readonly lost: Promise<string>;
  release(): Promise<void>;
}

/** Waits for the lease, if one is asked for. Without it this process alone writes. */
function lead(options: {
  readonly config: Config;
  readonly cluster: LoadedCluster;
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly leadership: { mayWrite: () => boolean };
}): Leading {
  const { config, leadership, metrics } = options;
  const lost = Promise.withResolvers<string>();
  if (!config.leaderElect) {
    leadership.mayWrite = () => true;
    return { acquired: Promise.resolve(), lost: lost.promise, release: () => Promise.resolve() };
  }
  const namespace = config.leaderElectionNamespace ?? options.cluster.namespace;
  if (namespace === undefined)
    throw new StartError("--leader-elect outside a cluster needs --leader-election-namespace");
  const acquired = Promise.withResolvers<undefined>();
  const abort = new AbortController();
  metrics.leading.set({ name: leaseName }, 0);
  const ended = runLease({
    client: options.client,
    namespace,
    name: leaseName,
    identity: `${hostname()}_${randomUUID()}`,
    clock: options.clock,
    random: options.random,
    logger: options.logger,
    onAcquired: (lease) => {
      leadership.mayWrite = () => lease.held();
      metrics.leading.set({ name: leaseName }, 1);
      acquired.resolve(undefined);
    },
    onLost: (why) => {
      leadership.mayWrite = () => false;
      metrics.leading.set({ name: leaseName }, 0);
      lost.resolve(why);
    },
    signal: abort.signal,
  });
  return {
    acquired: acquired.promise,
    lost: lost.promise,
    async release() {
      leadership.mayWrite = () => false;
      abort.abort(new Error("stopping"));
      await ended;
    },
  };
}

export type { SourceWatches };
