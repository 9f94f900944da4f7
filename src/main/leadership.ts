import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { leaderLeaseName } from "../api/keys.ts";
import type { KubeClient } from "../kube/client.ts";
import type { LoadedCluster } from "../kube/endpoint.ts";
import { runLease } from "../kube/lease.ts";
import type { Clock } from "../lib/clock.ts";
import type { Random } from "../lib/random.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { Metrics } from "../observe/metrics.ts";
import type { Config } from "./config.ts";
import { StartError } from "./start-error.ts";

/** A write the leader before us had sent arrives within its deadline, or never. */
const lateWriteMs = 30_000;

/** What this process may do now, as long as it leads. */
export interface Leadership {
  mayWrite: () => boolean;
  /** See `Engine.mayForget`. */
  mayForget: () => boolean;
}

/** The wait for the lease, and the lease. */
export interface Leading {
  readonly acquired: Promise<void>;
  readonly lost: Promise<string>;
  /** When the lease was last seen renewed, or first waited for, epoch ms; undefined: there is no lease. */
  readonly renewedAt: () => number | undefined;
  release(): Promise<void>;
}

/**
 * Waits for the lease, if one is asked for. Without it this process alone writes.
 *
 * @throws {StartError} when no namespace for the lease is known
 */
export function lead(options: {
  readonly config: Config;
  readonly cluster: LoadedCluster;
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly leadership: Leadership;
}): Leading {
  const { config, leadership, metrics } = options;
  const lost = Promise.withResolvers<string>();
  if (!config.leaderElect) {
    leadership.mayWrite = () => true;
    return {
      acquired: Promise.resolve(),
      lost: lost.promise,
      renewedAt: () => undefined,
      release: () => Promise.resolve(),
    };
  }
  const namespace = config.leaderElectionNamespace ?? options.cluster.namespace;
  if (namespace === undefined)
    throw new StartError("--leader-elect outside a cluster needs --leader-election-namespace");
  const acquired = Promise.withResolvers<undefined>();
  const abort = new AbortController();
  metrics.leading.set({ name: leaderLeaseName }, 0);
  let renewedAt = options.clock.now();
  const ended = runLease({
    client: options.client,
    namespace,
    name: leaderLeaseName,
    identity: `${hostname()}_${randomUUID()}`,
    clock: options.clock,
    random: options.random,
    logger: options.logger,
    onAcquired: (lease) => {
      leadership.mayWrite = () => lease.held();
      const settledAt = options.clock.monotonic() + (lease.takenOver ? lateWriteMs : 0);
      leadership.mayForget = () => options.clock.monotonic() >= settledAt;
      metrics.leading.set({ name: leaderLeaseName }, 1);
      acquired.resolve(undefined);
    },
    onLost: (why) => {
      leadership.mayWrite = () => false;
      metrics.leading.set({ name: leaderLeaseName }, 0);
      lost.resolve(why);
    },
    onRenewed: () => (renewedAt = options.clock.now()),
    signal: abort.signal,
  });
  return {
    acquired: acquired.promise,
    lost: lost.promise,
    renewedAt: () => renewedAt,
    async release() {
      leadership.mayWrite = () => false;
      abort.abort(new Error("stopping"));
      await ended;
    },
  };
}
