import { hostname } from "node:os";
import { watchAccountUsage } from "../controller/account-usage.ts";
import { createGateView, type GateView } from "../controller/gate-view.ts";
import { startSourceWatches } from "../controller/source-watches.ts";
import { createStageSetController, type StageSetController } from "../controller/stage-set-controller.ts";
import type { Engine } from "../engine/engine.ts";
import { catchUp } from "../engine/catch-up.ts";
import { createFreshest } from "../engine/freshest.ts";
import { createInventoryStore } from "../engine/inventory-store.ts";
import { createLedgerStore } from "../engine/ledger-store.ts";
import { stageSets as stageSetResource } from "../engine/resources.ts";
import { createGate, gateHeaders } from "../http/gate.ts";
import { createAccessProvider } from "../identity/access.ts";
import { createKubeClient } from "../kube/client.ts";
import { loadKubeConfig, type LoadedCluster } from "../kube/endpoint.ts";
import { createEventRecorder } from "../kube/events.ts";
import { createTransports } from "../kube/transport.ts";
import { sleep, systemClock, type Clock } from "../lib/clock.ts";
import { systemRandom, type Random } from "../lib/random.ts";
import type { Logger } from "../lib/telemetry.ts";
import { createMetrics, type Metrics } from "../observe/metrics.ts";
import { noTracer, type Tracer } from "../observe/tracer.ts";
import { createJsonPoster } from "../outbound/json-poster.ts";
import { buildEngine } from "./build-engine.ts";
import { commit } from "./build-info.ts";
import { startExpressions } from "./expressions.ts";
import type { Config } from "./config.ts";
import { collectGarbage } from "./heap.ts";
import { lead, type Leadership } from "./leadership.ts";
import { bindPatiently, openFixedListeners, type PatientListener } from "./listeners.ts";
import { controlGroupMemory } from "./memory-limit.ts";
import { startOwnCaches } from "./own-caches.ts";
import { startUi } from "./start-ui.ts";
import { reportPrerequisites, type UnmetPrerequisite, watchedKind } from "./prerequisites.ts";
import { createReadiness } from "./readiness.ts";
import { createReports, fluxEvent, reportingController } from "./reports.ts";
import { createMemoryGuard, type MemoryReading } from "../runtime/memory-guard.ts";
import { StartError } from "./start-error.ts";
import { startWebhook } from "./start-webhook.ts";
import { version } from "./version.ts";
import { wasmModules } from "./wasm-modules.ts";

export interface StartOptions {
  readonly config: Config;
  readonly logger: Logger;
  readonly clock?: Clock;
  readonly random?: Random;
  /** Default: found as spec 60 §1 says. */
  readonly cluster?: LoadedCluster;
  /** How much memory there is; default: what the control group says. */
  readonly memory?: () => MemoryReading | undefined;
  /** How long the gate goes on answering after the stop began, ms; default 5,000. */
  readonly drainMs?: number;
}

/** Events hold up the release of the lease at most so long: the peer waits for it. */
const longestFlushMs = 500;

/** The controller while it runs. Disposing stops it as spec 60 §1 says. */
export interface RunningController extends AsyncDisposable {
  /** Ports that are bound now. */
  ports(): {
    readonly gate?: number;
    readonly health?: number;
    readonly metrics?: number;
    readonly ui?: number;
    readonly webhook?: number;
  };
  isReady(): boolean;
  /** Resolves with the reason when the lease is lost: nothing may be written any more. */
  readonly leadershipLost: Promise<string>;
  /** Resolves with the reason when something broke that nothing mends: the process exits with 1. */
  readonly failed: Promise<string>;
}

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
  const metrics = createMetrics({ version, commit, workers: config.concurrency });
  if (config.allowLoopback)
    logger.warn("--dev-allow-loopback is on: artifacts, metric sources and remote API servers may be on loopback");

  const tracer = stack.use(await buildTracer(config, { clock, logger }));

  const leadership: Leadership = { mayWrite: () => false, mayForget: () => true };
  const transports = stack.use(createTransports({ clock }));
  const userAgent = `stageset-controller/${version}`;
  const shared = {
    endpoint: cluster.endpoint,
    credential: cluster.credential,
    transports,
    clock,
    userAgent,
    requests: metrics.requests,
    traceparent: () => tracer.traceparent(),
  };
  const access = stack.use(createAccessProvider({ ...shared, mayWrite: () => leadership.mayWrite() }));
  const unguarded = stack.use(createKubeClient({ ...shared, identity: "controller" }));

  const readiness = createReadiness(["informers", "webhook", "gate", ...(config.ui === undefined ? [] : ["ui"])]);
  const fixed = await openFixedListeners(stack, { config, metrics, readiness, clock, logger });

  const modules = wasmModules((line) => logger.info(line));
  const cel = startExpressions(stack, { modules, clock });
  const failed = Promise.withResolvers<string>();
  const webhook =
    config.webhook &&
    stack.use(
      startWebhook({
        webhook: config.webhook,
        config,
        namespace: cluster.namespace,
        client: unguarded,
        cel,
        metrics,
        leads: () => leadership.mayWrite(),
        onFailed: (why) => failed.resolve(why),
        clock,
        logger,
      }),
    );
  readiness.provide("webhook", () => webhook === undefined || webhook.isReady());

  const caches = startOwnCaches(stack, { client: unguarded, config, clock, logger });
  const poster =
    config.eventsUrl === undefined
      ? undefined
      : stack.use(createJsonPoster({ url: config.eventsUrl, clock, logger, what: "event" }));
  const events = stack.use(
    createEventRecorder({
      client: access.controller.client,
      clock,
      random,
      logger,
      reportingController,
      reportingInstance: hostname(),
      onEvent: poster === undefined ? undefined : (event) => poster.post(fluxEvent(event, clock)),
    }),
  );
  const reports = stack.use(
    createReports({ events, metrics, logger, clock, trace: (name, attributes) => tracer.start(name, attributes) }),
  );
  const late: { controller?: StageSetController; engine?: Engine } = {};
  const readMemory = options.memory ?? controlGroupMemory();
  const memory = stack.use(
    createMemoryGuard({
      clock,
      logger,
      read: readMemory,
      shed() {
        late.engine?.renders.clear();
        late.engine?.ladders.cache.clear();
        late.engine?.compute.retireIdle();
        collectGarbage();
      },
      onRoom() {
        late.engine?.compute.reconsider();
        late.controller?.queue.reconsider();
      },
    }),
  );
  metrics.memoryPressure(() => memory.pressure);
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
    snapshot: { crossNamespace: config.crossNamespace, allowLoopback: config.allowLoopback },
    defaultIntervalMs: config.defaultIntervalMs,
    onProducerKinds: (kinds) => sources.refer(kinds),
    reports,
    meter: metrics.queue,
    mayBegin: () => memory.mayBegin(),
    isReady: (stageSet) => gateView.isReady(stageSet),
  });
  late.controller = controller;
  metrics.queue.read(() => controller.queue);
  const accounts = stack.use(
    watchAccountUsage(caches.stageSets, {
      defaultServiceAccount: config.defaultServiceAccount,
      release: (namespace, name) => access.release(namespace, name),
    }),
  );
  const stores = {
    stageSets: stack.use(createFreshest(caches.stageSets)),
    inventories: stack.use(createInventoryStore(caches.inventories, caches.stageSets)),
    ledgers: stack.use(createLedgerStore(caches.ledgers)),
  };
  late.engine = await buildEngine(stack, {
    config,
    stores,
    leadership,
    clock,
    random,
    logger,
    access,
    connections: {
      transports,
      clock,
      userAgent,
      // Hosts that tenants choose are no labels.
      requests: { ...metrics.requests, add: (labels) => metrics.requests.add({ ...labels, host: "remote" }) },
      traceparent: shared.traceparent,
      mayWrite: () => leadership.mayWrite(),
    },
    accounts,
    caches,
    controller,
    reports,
    metrics,
    modules,
    cel,
    memoryLimitBytes: readMemory()?.limitBytes,
    mayBegin: () => memory.mayBegin(),
  });

  const abort = new AbortController();
  const kinds = [caches.stageSets, caches.inventories, caches.ledgers, caches.fleets];
  const synced = Promise.all([
    ...kinds.map((cache) => cache.whenSynced(abort.signal)),
    sources.whenSynced(abort.signal),
    caches.policiesSettled,
  ]);
  synced.catch(() => undefined);
  const gate = bindGate(stack, { config, gateView, metrics, clock, logger, when: synced });
  readiness.provide("gate", () => gate === undefined || gate.isListening());
  readiness.provide("informers", () => kinds.every((cache) => cache.synced));
  const prerequisites = [
    watchedKind("stagesets.stages.metio.wtf", caches.stageSets),
    watchedKind("stageinventories.stages.metio.wtf", caches.inventories),
    watchedKind("stageledgers.stages.metio.wtf", caches.ledgers),
    watchedKind("fleetrollouts.stages.metio.wtf", caches.fleets),
  ];
  const missing = (): readonly UnmetPrerequisite[] => webhook?.missing() ?? [];
  stack.use(reportPrerequisites({ prerequisites, missing, clock, logger }));

  const leading = lead({ config, cluster, client: unguarded, clock, random, logger, metrics, leadership });
  const ui =
    config.ui &&
    stack.use(
      await startUi({
        ui: config.ui,
        client: unguarded,
        caches,
        sources,
        leaseRenewedAt: leading.renewedAt,
        when: synced,
        clock,
        logger: logger.with({ logger: "ui" }),
      }),
    );
  if (ui !== undefined) readiness.provide("ui", () => ui.isListening());
  const working = (async () => {
    await synced;
    await leading.acquired;
    if (config.leaderElect)
      await catchUp(
        { client: unguarded, namespaces: config.namespaces, ...stores, clock, random, logger },
        abort.signal,
      );
    if (abort.signal.aborted) return;
    reports.lead(caches.stageSets.list());
    controller.start();
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
      ...portOf("ui", ui?.port()),
      ...portOf("webhook", webhook?.port()),
    }),
    isReady: () => readiness.isReady(),
    leadershipLost: leading.lost,
    failed: failed.promise,
    async [Symbol.asyncDispose]() {
      readiness.stop();
      webhook?.drain();
      const began = clock.monotonic();
      abort.abort(new Error("stopping"));
      await controller.stop();
      await events.flush({ signal: AbortSignal.timeout(longestFlushMs) }).catch(() => undefined);
      await leading.release();
      const left = (options.drainMs ?? 5_000) - (clock.monotonic() - began);
      if (left > 0) await sleep(clock, left);
      await running.disposeAsync();
    },
  };
}

async function buildTracer(
  { tracing, env }: Config,
  parts: { readonly clock: Clock; readonly logger: Logger },
): Promise<Tracer> {
  if (tracing === undefined) return noTracer;
  const ownRoots = env["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"] ?? env["OTEL_EXPORTER_OTLP_CERTIFICATE"];
  const trust = ownRoots === undefined ? "system" : "environment";
  try {
    // Loaded for those who trace alone: the SDK and its transport are 30 MB.
    const { createTracer } = await import("../observe/otlp-tracer.ts");
    return createTracer({ ...tracing, trust, version, ...parts });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new StartError(`Cannot send traces to "${tracing.endpoint}": ${why}`, { cause: error });
  }
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
  return stack.use(
    bindPatiently({ address: config.gate, handler, headers: gateHeaders, when: options.when, clock, logger }),
  );
}
