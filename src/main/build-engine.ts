import { readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { inventoryStageSetLabel } from "../api/keys.ts";
import { reasonLink } from "../api/runbook.ts";
import { createComputePool } from "../compute/pool.ts";
import type { AccountUsage } from "../controller/account-usage.ts";
import type { StageSetController } from "../controller/stage-set-controller.ts";
import type { Cause } from "../domain/pass/state.ts";
import { createActionRuns } from "../engine/action-runs.ts";
import { createAheadRenders } from "../engine/ahead.ts";
import type { Engine } from "../engine/engine.ts";
import { hostAllowance } from "../domain/formats/host-glob.ts";
import type { Cel } from "../engine/facts/cel.ts";
import { createLadderCache } from "../engine/facts/ladder-cache.ts";
import { createLadderAhead } from "../engine/ladder-ahead.ts";
import { createRenderCache } from "../engine/facts/render-cache.ts";
import type { Freshest } from "../engine/freshest.ts";
import type { InventoryStore } from "../engine/inventory-store.ts";
import type { LedgerStore } from "../engine/ledger-store.ts";
import { createMetricReader } from "../engine/metrics/metric-source.ts";
import { createMetricReadings } from "../engine/metrics/metric-readings.ts";
import { createJournal, type StageSetKey } from "../engine/journal.ts";
import { createObserver } from "../engine/observer.ts";
import { createPodCauses } from "../engine/pod-causes.ts";
import type { ResourceCache } from "../kube/cache.ts";
import { createShareOpener } from "../kms/share-opener.ts";
import type { Clock } from "../lib/clock.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { Random } from "../lib/random.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { Metrics } from "../observe/metrics.ts";
import { createCloudCaller } from "../outbound/cloud-call.ts";
import { createGuardedFetch } from "../outbound/guard.ts";
import { createArtifactStore } from "../source/artifact-store.ts";
import { createArtifactFolder } from "./artifact-folder.ts";
import type { Config } from "./config.ts";
import { createRecordIndex, readDependency } from "./other-stage-sets.ts";
import { buildImageGate, watchPolicies } from "./image-verification.ts";
import type { Leadership } from "./leadership.ts";
import type { OwnCaches } from "./own-caches.ts";
import { buildTargets } from "./build-targets.ts";
import type { ConnectionOptions } from "../identity/remote/connection.ts";
import { workerUrl } from "./expressions.ts";
import type { WasmModules } from "./wasm-modules.ts";

/** And no more than a quarter of the memory there is (spec 60 §13). */
const renderCacheBytes = 64 * 1024 * 1024;

/** Everything a pass works with; the stack closes it. */
export async function buildEngine(
  stack: AsyncDisposableStack,
  parts: {
    readonly config: Config;
    readonly clock: Clock;
    readonly random: Random;
    readonly logger: Logger;
    readonly access: Engine["access"];
    /** Made for the controller's own cluster; connections to others are alike in what is not the cluster's. */
    readonly connections: ConnectionOptions;
    readonly accounts: AccountUsage;
    readonly caches: OwnCaches;
    /** Records as they were acknowledged to us, or seen by watch since. */
    readonly stores: {
      readonly stageSets: Freshest;
      readonly inventories: InventoryStore;
      readonly ledgers: LedgerStore;
    };
    readonly leadership: Pick<Leadership, "mayForget" | "mayWrite">;
    readonly controller: StageSetController;
    readonly reports: Engine["reports"];
    readonly metrics: Metrics;
    readonly modules: WasmModules;
    readonly cel: Cel;
    /** Undefined: unlimited. */
    readonly memoryLimitBytes: number | undefined;
    readonly mayBegin: () => boolean;
  },
): Promise<Engine> {
  const { config, clock, random, logger, access, accounts, caches, controller, metrics, modules, cel } = parts;
  const { stageSets, inventories, ledgers } = parts.stores;
  const records = stack.use(createRecordIndex(caches));
  const compute = stack.use(createComputePool({ clock, workerUrl, mayBegin: parts.mayBegin }));
  const dir = await createArtifactFolder(tmpdir());
  stack.defer(() => rm(dir, { recursive: true, force: true }));
  const { allowLoopback, ownAddresses } = config;
  const fetch = createGuardedFetch({ allowLoopback, ownAddresses, clock });
  const artifacts = stack.use(
    createArtifactStore({ dir, fetch, clock, onFetched: (bytes) => metrics.artifactBytes.observe({}, bytes) }),
  );
  const cloud = stack.use(createCloudCaller({ clock, env: config.env }));
  const targets = stack.use(buildTargets({ config, access, connections: parts.connections, compute, cloud, clock }));
  const metricReadings = stack.use(
    createMetricReadings({
      read: createMetricReader({ fetch, clock, isAllowedHost: hostAllowance(config.allowedActionHosts) }),
      access: (namespace, as, signal) =>
        access.access(as.kind === "controller" ? "controller" : { namespace, serviceAccountName: as.name }, { signal }),
      clock,
      logger,
      wake: (key) => controller.wake(key, "metric"),
      failed: (key) => parts.reports.metricSourceFailed(key),
    }),
  );
  const actions = stack.use(
    createActionRuns({
      clock,
      logger,
      cel,
      random,
      fetch,
      mayWrite: () => parts.leadership.mayWrite(),
      isAllowedHost: hostAllowance(config.allowedActionHosts),
      wake: (key) => controller.wake(key, "action"),
      measured: (seconds) => parts.reports.phase("actions", seconds),
    }),
  );
  const wake = (key: StageSetKey, cause: Cause): void => controller.wake(key, cause);
  const observer = stack.use(createObserver({ clock, logger, wake }));
  const podCauses = stack.use(createPodCauses({ clock, wake }));
  const images = buildImageGate({ config, caches, clock, compute, fetch, logger });
  stack.use(watchPolicies({ caches, controller }));
  watchInventories(caches.inventories, { inventories, controller });
  caches.ledgers.subscribe(({ object, namespace, name }) =>
    ledgers.judge(object, () => controller.wake({ namespace, name }, "ledger")),
  );
  return {
    clock,
    random,
    logger,
    ladders: {
      requireVerified: config.requireVerifiedMigrationSources,
      requirePinned: config.requirePinnedMigrationSources,
      crossNamespace: config.crossNamespace,
      allowLoopback: config.allowLoopback,
      isAllowedHost: hostAllowance(config.allowedActionHosts),
      cache: createLadderCache({ clock }),
      ahead: createLadderAhead(),
    },
    options: {
      defaultIntervalMs: config.defaultIntervalMs,
      crossNamespace: config.crossNamespace,
      requireServiceAccount: config.requireServiceAccount,
      defaultServiceAccount: config.defaultServiceAccount,
      maxTeardownWaitMs: config.maxTeardownWaitMs,
      breakGlass: images.breakGlass,
      runbookLink: (reason) => reasonLink(config.runbookBaseUrl, reason),
    },
    access,
    targets,
    journal: createJournal({
      client: access.controller.client,
      stageSets,
      inventories,
      ledgers,
      shardCap: config.shardCap,
      onSkipped: (key, entry) => {
        metrics.inventorySkipped.add({ namespace: key.namespace, stageset: key.name, stage: entry.stage });
        logger.warn("skipping malformed StageInventory entry", {
          namespace: key.namespace,
          stageset: key.name,
          stage: entry.stage,
          shard: entry.shard,
          id: entry.id,
          error: "the id is not <namespace>_<name>_<group>_<kind>",
        });
      },
    }),
    artifacts,
    compute,
    cel,
    kustomize: modules.kustomize,
    kms: {
      open: createShareOpener({
        // Loopback is never a service with keys.
        transport: { fetch: createGuardedFetch({ allowLoopback: false, ownAddresses, clock }), clock },
        ambient: { environment: process.env, readFile: (path) => readFile(path, "utf8") },
      }),
      perObject: config.objectLevelKms,
    },
    renders: createRenderCache({
      maxBytes: Math.min(renderCacheBytes, (parts.memoryLimitBytes ?? Infinity) / 4),
    }),
    observer,
    metrics: metricReadings,
    images,
    actions,
    podCauses,
    aheads: stack.use(createAheadRenders({ clock })),
    isBusy: () => controller.queue.depth > 0,
    reports: parts.reports,
    dependency: (key, o) => readDependency({ client: access.controller.client, stageSets, config }, key, o),
    sharers: (namespace, name) => accounts.count(namespace, name),
    recordedElsewhere: (key, id) => records.isRecordedElsewhere(key, id),
    mayForget: () => parts.leadership.mayForget(),
    session: (key, uid) => controller.session(key, uid),
  };
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
