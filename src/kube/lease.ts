import { deadline } from "../lib/abort.ts";
import { type Clock, sleep } from "../lib/clock.ts";
import { asNumber, asText, at } from "../lib/json.ts";
import { jitter, type Random } from "../lib/random.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { KubeClient } from "./client.ts";
import { isKubeError } from "./error.ts";
import { type ApiResource, apiVersionOf, createRequest, getRequest, replaceRequest } from "./request.ts";

/** Spec 60 §4. A holder that cannot renew stops at `renewDeadlineMs`, before anyone may take the lease over. */
export const leaseTimes = { leaseSeconds: 15, renewDeadlineMs: 10_000, retryMs: 2000 } as const;

export const leases: ApiResource = {
  group: "coordination.k8s.io",
  version: "v1",
  kind: "Lease",
  plural: "leases",
  namespaced: true,
  verbs: [],
};

/** A lease in hand. */
export interface HeldLease {
  /** False from the renew deadline on, even while the process was paused and no timer ran. */
  held(): boolean;
  /** The holder before did not give it up: a write it sent may still be on its way. */
  readonly takenOver: boolean;
}

export interface LeaseOptions {
  /** Not guarded by the lease itself. */
  readonly client: KubeClient;
  readonly namespace: string;
  readonly name: string;
  /** Unique per process. */
  readonly identity: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Called once. */
  readonly onAcquired: (lease: HeldLease) => void;
  /** Called at most once, without delay: another holds it, or the renew deadline passed. */
  readonly onLost: (why: string) => void;
  /** Called whenever the lease is seen renewed, by whomever. */
  readonly onRenewed?: (() => void) | undefined;
  /** Aborting gives the lease up: abort it once nothing can write any more. */
  readonly signal: AbortSignal;
}

/** Waits for the lease, keeps it, and releases it on abort. Resolves when it was lost or given up. */
export async function runLease(options: LeaseOptions): Promise<void> {
  const { clock } = options;
  const attempt = createAttempt(options);
  const acquired = await acquire(options, attempt);
  if (acquired === undefined) return;
  let renewedAt: number | undefined = acquired.at;
  let lost = false;
  options.onAcquired({
    takenOver: acquired.takenOver,
    held: () => !lost && clock.monotonic() < (renewedAt ?? -Infinity) + leaseTimes.renewDeadlineMs,
  });
  for (;;) {
    const renewed = await renew(options, { attempt, renewedAt });
    if (renewed.kind === "renewed") {
      renewedAt = renewed.at;
      continue;
    }
    lost = true;
    if (renewed.kind === "lost") options.onLost(renewed.why);
    else await release(options);
    return;
  }
}

/** One look at the lease and, if it may be had, one write. */
type Attempt = (signal: AbortSignal) => Promise<Held | { readonly kind: "other"; readonly holder: string }>;

/** `at`: when the write was begun, monotonic ms. */
interface Held {
  readonly kind: "held";
  readonly at: number;
  /** From somebody whose time was over. */
  readonly takenOver: boolean;
}

/** Undefined: aborted before. */
async function acquire(options: LeaseOptions, attempt: Attempt): Promise<Held | undefined> {
  const { clock, random, signal, logger } = options;
  let said = "";
  while (!signal.aborted) {
    try {
      const result = await attempt(signal);
      if (result.kind === "held") return result;
      if (result.holder !== said) logger.info("waiting for the lease", { lease: options.name, holder: result.holder });
      said = result.holder;
      await sleep(clock, jitter(leaseTimes.retryMs, 0.1, random), signal);
    } catch (error) {
      if (isAborted(signal)) return undefined;
      logger.warn("cannot read or write the lease", { lease: options.name, error });
      await sleep(clock, jitter(leaseTimes.retryMs, 0.1, random), signal).catch(() => undefined);
    }
  }
  return undefined;
}

type Renewal =
  | { readonly kind: "renewed"; readonly at: number }
  | { readonly kind: "lost"; readonly why: string }
  | { readonly kind: "stopped" };

async function renew(
  options: LeaseOptions,
  { attempt, renewedAt }: { readonly attempt: Attempt; readonly renewedAt: number },
): Promise<Renewal> {
  const { clock, random, signal, logger } = options;
  using limit = deadline(clock, {
    timeoutMs: renewedAt + leaseTimes.renewDeadlineMs - clock.monotonic(),
    what: "renewing the lease",
    parent: signal,
  });
  for (;;) {
    try {
      await sleep(clock, jitter(leaseTimes.retryMs, 0.1, random), limit.signal);
      const result = await attempt(limit.signal);
      return result.kind === "held"
        ? { kind: "renewed", at: result.at }
        : { kind: "lost", why: `the lease is held by "${result.holder}"` };
    } catch (error) {
      if (isAborted(signal)) return { kind: "stopped" };
      if (isAborted(limit.signal)) {
        return { kind: "lost", why: `the lease was not renewed within ${leaseTimes.renewDeadlineMs} ms` };
      }
      logger.warn("cannot renew the lease; trying again", { lease: options.name, error });
    }
  }
}

function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

interface LeaseRecord {
  readonly holder: string;
  readonly seconds: number;
  readonly transitions: number;
  readonly renewTime: string;
  readonly acquireTime: string;
  readonly resourceVersion: string;
}

function createAttempt(options: LeaseOptions): Attempt {
  const { client, clock, namespace, name, identity } = options;
  // How old a record is, is measured here, by when it was first seen: clocks of other machines are not trusted.
  let seen: { readonly record: string; readonly at: number } | undefined;
  const expired = (record: LeaseRecord): boolean => {
    const text = `${record.holder} ${record.renewTime} ${record.transitions} ${record.resourceVersion}`;
    if (seen?.record !== text) {
      // What was found first may be old.
      if (seen !== undefined) options.onRenewed?.();
      seen = { record: text, at: clock.monotonic() };
    }
    return clock.monotonic() - seen.at >= record.seconds * 1000;
  };
  return async (signal) => {
    const send = (request: Parameters<KubeClient["send"]>[0]): Promise<unknown> =>
      client.send(request, { signal, timeoutMs: 5000, urgent: true });
    const record = await readRecord(send, { namespace, name });
    const startedAt = clock.monotonic();
    const time = microTime(clock.now());
    if (record === undefined) {
      await send(
        createRequest(leases, {
          namespace,
          object: leaseObject(options, { renewTime: time, acquireTime: time, transitions: 0 }),
        }),
      );
      options.onRenewed?.();
      return { kind: "held", at: startedAt, takenOver: false };
    }
    const ours = record.holder === identity;
    if (!ours && record.holder !== "" && !expired(record)) return { kind: "other", holder: record.holder };
    const object = leaseObject(options, {
      renewTime: time,
      acquireTime: ours ? record.acquireTime : time,
      transitions: ours ? record.transitions : record.transitions + 1,
      resourceVersion: record.resourceVersion,
    });
    await send(replaceRequest(leases, { namespace, name, object }));
    options.onRenewed?.();
    return { kind: "held", at: startedAt, takenOver: !ours && record.holder !== "" };
  };
}

async function readRecord(
  send: (request: Parameters<KubeClient["send"]>[0]) => Promise<unknown>,
  n: { readonly namespace: string; readonly name: string },
): Promise<LeaseRecord | undefined> {
  try {
    const body = await send(getRequest(leases, n));
    const renewTime = asText(at(body, "spec", "renewTime")) ?? "";
    return {
      holder: asText(at(body, "spec", "holderIdentity")) ?? "",
      seconds: asNumber(at(body, "spec", "leaseDurationSeconds")) ?? leaseTimes.leaseSeconds,
      transitions: asNumber(at(body, "spec", "leaseTransitions")) ?? 0,
      renewTime,
      acquireTime: asText(at(body, "spec", "acquireTime")) ?? renewTime,
      resourceVersion: asText(at(body, "metadata", "resourceVersion")) ?? "",
    };
  } catch (error) {
    if (isKubeError(error, "NotFound")) return undefined;
    throw error;
  }
}

async function release(options: LeaseOptions): Promise<void> {
  const { client, clock, namespace, name, identity, logger } = options;
  const send = (request: Parameters<KubeClient["send"]>[0]): Promise<unknown> =>
    client.send(request, { timeoutMs: 3000, urgent: true });
  try {
    const record = await readRecord(send, { namespace, name });
    if (record?.holder !== identity) return;
    const object = leaseObject(options, {
      renewTime: microTime(clock.now()),
      acquireTime: record.acquireTime,
      transitions: record.transitions,
      resourceVersion: record.resourceVersion,
      released: true,
    });
    await send(replaceRequest(leases, { namespace, name, object }));
  } catch (error) {
    logger.warn("cannot release the lease; it runs out by itself", { lease: name, error });
  }
}

function leaseObject(
  { namespace, name, identity }: LeaseOptions,
  o: {
    readonly renewTime: string;
    readonly acquireTime: string;
    readonly transitions: number;
    readonly resourceVersion?: string;
    readonly released?: boolean;
  },
): unknown {
  return {
    apiVersion: apiVersionOf(leases),
    kind: leases.kind,
    metadata: { namespace, name, ...(o.resourceVersion === undefined ? {} : { resourceVersion: o.resourceVersion }) },
    spec: {
      holderIdentity: o.released === true ? "" : identity,
      leaseDurationSeconds: o.released === true ? 1 : leaseTimes.leaseSeconds,
      acquireTime: o.acquireTime,
      renewTime: o.renewTime,
      leaseTransitions: o.transitions,
    },
  };
}

/** `MicroTime` of the Kubernetes API. */
export function microTime(epochMs: number): string {
  return new Date(epochMs).toISOString().replace("Z", "000Z");
}
