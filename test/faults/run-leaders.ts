import { setTimeout as delay } from "node:timers/promises";
import { asText, at } from "../../src/lib/json.ts";
import type { ArtifactServer } from "../support/artifacts.ts";
import { eventually, type TestCluster } from "../support/cluster.ts";
import { bindInstallation, controllerToken } from "../support/controller-account.ts";
import { startControllerProcess, type ControllerProcess } from "../support/controller-process.ts";
import { startFaultProxy, type FaultProxy } from "../support/fault-proxy.ts";
import { watchGate } from "./gate-oracle.ts";
import { live, prepareLife, stageSetName } from "./life.ts";
import { createMonitor } from "./monitor.ts";
import { leaseFlags, leaseOf } from "./run-plan.ts";

/** Who leads, and what comes between. */
export interface LeaderPlan {
  readonly name: string;
  /**
   * `pause`: the leader is stopped (SIGSTOP) at a write and goes on once another leads. `late`: and that write reaches the
   * server only then. `partition`: the leader alone is cut off. `off`: both work at once, without a lease.
   */
  readonly how: "pause" | "late" | "partition" | "off";
  /** The leader's write at which it happens; of no use for `off`. */
  readonly write: number;
  /** The new leader's writes after which the old one goes on. */
  readonly after: number;
}

export interface LeaderResult {
  readonly phases: Readonly<Record<string, unknown>>;
  readonly counts: Readonly<Record<string, string>>;
  readonly problems: readonly string[];
  readonly takeovers: number;
  /** Writes the old leader sent after another one had taken over; the one of `late` left out. */
  readonly lateWrites: number;
  /** Of the old leader; undefined: it was not stopped by what happened. */
  readonly exitCode: number | null | undefined;
  /** From the exit of the old leader to the first write of the new one, ms; undefined unless it exits by itself. */
  readonly exitedBefore: number | undefined;
  readonly seconds: number;
}

/** The old leader goes on at the latest this long after the new one's first write. */
const longestPauseMs = 12_000;
const phaseTimeoutMs = 120_000;

/** One life of the reference release with two programs. */
export async function runLeaders(
  cluster: TestCluster,
  { server, plan }: { readonly server: ArtifactServer; readonly plan: LeaderPlan },
): Promise<LeaderResult> {
  const started = performance.now();
  const namespace = await prepareLife(cluster);
  await using first = await startFaultProxy(cluster);
  await using second = await startFaultProxy(cluster);
  const strike = createStrike(plan, { first, second });
  const monitor = createMonitor(cluster, { namespace, name: stageSetName });
  const token = await controllerToken(cluster);
  for (const proxy of [first, second]) monitor.attach(proxy, token);
  await bindInstallation(cluster, { namespace });
  const election = plan.how === "off" ? [] : leaseFlags(namespace);
  const start = (proxy: FaultProxy): Promise<ControllerProcess> =>
    startControllerProcess({
      server: proxy.server,
      token,
      namespaces: [namespace],
      args: ["--log-level=debug", ...election],
    });
  await using leader = await start(first);
  if (plan.how !== "off") await eventually(() => isHeld(cluster, namespace), { timeoutMs: 30_000 });
  await using follower = await start(second);
  strike.onLeader(leader);
  const ended = leader.ended().then((code) => ({ code, at: performance.now() }));
  await using gate = watchGate(cluster, {
    namespace,
    name: stageSetName,
    gate: async (path) => {
      const response = await fetch(follower.gateUrl + path, { signal: AbortSignal.timeout(5_000) }).catch(
        () => undefined,
      );
      return response === undefined ? undefined : { status: response.status, body: await response.text() };
    },
  });
  const until = async (what: string, look: () => Promise<boolean>): Promise<void> => {
    await eventually(look, { timeoutMs: phaseTimeoutMs, intervalMs: 200 }).catch((error: unknown) => {
      const log = `${leader.log().slice(-1_500)}\n--\n${follower.log().slice(-1_500)}`;
      throw new Error(`not ${what} in time\n${log}`, { cause: error });
    });
  };
  try {
    const { phases, problems } = await live({
      cluster,
      server,
      namespace,
      until,
      onPublish: (revision, when) => (when === "before" ? gate.publishing(revision) : gate.published(revision)),
    });
    const exit = plan.how === "off" || !strike.struck() ? undefined : await ended;
    const firstWriteAt = strike.firstWriteAt();
    return {
      phases,
      counts: monitor.counts(),
      problems: [...problems, ...monitor.violations, ...gate.violations()],
      takeovers: firstWriteAt === undefined || plan.how === "off" ? 0 : 1,
      lateWrites: strike.lateWrites(),
      exitCode: exit?.code,
      exitedBefore:
        exit === undefined || firstWriteAt === undefined || plan.how !== "partition"
          ? undefined
          : firstWriteAt - exit.at,
      seconds: (performance.now() - started) / 1_000,
    };
  } finally {
    strike.goOn();
  }
}

interface Strike {
  onLeader(leader: ControllerProcess): void;
  struck(): boolean;
  /** Of the second program. */
  firstWriteAt(): number | undefined;
  lateWrites(): number;
  /** Lets a stopped leader go on, so that it can be ended. */
  goOn(): void;
}

function createStrike(plan: LeaderPlan, proxies: { readonly first: FaultProxy; readonly second: FaultProxy }): Strike {
  let leader: ControllerProcess | undefined;
  let struckAt: number | undefined;
  let firstWriteAt: number | undefined;
  let lateWrites = 0;
  let secondWrites = 0;
  const goesOn = Promise.withResolvers<undefined>();
  const goOn = (): void => {
    if (leader !== undefined && struckAt !== undefined && plan.how !== "partition") signal(leader.pid, "SIGCONT");
    goesOn.resolve(undefined);
  };
  proxies.first.onCall = async (call) => {
    if (plan.how === "off" || call.write === 0) return undefined;
    if (firstWriteAt !== undefined) lateWrites++;
    if (struckAt !== undefined || call.write !== plan.write || leader === undefined) return undefined;
    struckAt = performance.now();
    if (plan.how === "partition") {
      proxies.first.partitioned = true;
      return { kind: "hang" };
    }
    signal(leader.pid, "SIGSTOP");
    if (plan.how === "late") await goesOn.promise;
    return undefined;
  };
  proxies.second.onCall = (call) => {
    if (call.write === 0) return undefined;
    if (firstWriteAt === undefined) {
      firstWriteAt = performance.now();
      void delay(longestPauseMs, undefined, { ref: false }).then(goOn);
    }
    if (++secondWrites === plan.after) goOn();
    return undefined;
  };
  return {
    onLeader: (program) => (leader = program),
    struck: () => struckAt !== undefined,
    firstWriteAt: () => firstWriteAt,
    lateWrites: () => lateWrites,
    goOn,
  };
}

function signal(pid: number, name: "SIGSTOP" | "SIGCONT"): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended.
  }
}

async function isHeld({ admin }: TestCluster, namespace: string): Promise<boolean> {
  const lease = await admin.get(leaseOf(namespace));
  return (asText(at(lease, "spec", "holderIdentity")) ?? "") !== "";
}
