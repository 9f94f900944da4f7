import { setTimeout as delay } from "node:timers/promises";
import { asText, at } from "../../src/lib/json.ts";
import type { ArtifactServer } from "../support/artifacts.ts";
import { eventually, type TestCluster } from "../support/cluster.ts";
import { bindInstallation, controllerToken } from "../support/controller-account.ts";
import { startControllerProcess, type ControllerProcess } from "../support/controller-process.ts";
import { startTestController } from "../support/controller.ts";
import { startFaultProxy, type FaultProxy } from "../support/fault-proxy.ts";
import { createWallClock } from "../support/wall-clock.ts";
import { watchGate } from "./gate-oracle.ts";
import { live, prepareLife, stageSetName } from "./life.ts";
import { createMonitor } from "./monitor.ts";
import { bugsIn, leaseFlags, leaseOf } from "./run-plan.ts";

/** Who leads, and what comes between. */
export interface LeaderPlan {
  readonly name: string;
  /**
   * `pause`: the leader is stopped (SIGSTOP) at a write and goes on once another leads. `late`: and that write reaches the
   * server only then. `partition`: the leader alone is cut off. `skew`: its requests for the lease are not answered any more,
   * and for the other one time passes {@link skewRate} times as fast, so that it leads while the first still thinks it does:
   * a lease bears a difference of times, not of their pace (client-go says the same). `off`: both work at once, without a
   * lease.
   */
  readonly how: "pause" | "late" | "partition" | "skew" | "off";
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
  /** Writes the old leader sent after the other one's first; the one of `late` left out. */
  readonly lateWrites: number;
  /** Of the old leader; undefined: it was not stopped by what happened. */
  readonly exitCode: number | null | undefined;
  /** From the exit of the old leader to the first write of the new one, ms; undefined unless it exits by itself. */
  readonly exitedBefore: number | undefined;
  readonly seconds: number;
}

const skewRate = 3;
/** How long each write of the first takes in `skew`, so that its release outlasts the lease in the other one's eyes. */
const slowWriteMs = 400;
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
  const start = async (proxy: FaultProxy): Promise<ControllerProcess & Follower> => {
    const program = await startControllerProcess({
      server: proxy.server,
      token,
      namespaces: [namespace],
      args: ["--log-level=debug", ...election],
    });
    const gate = async (path: string): ReturnType<Follower["gate"]> => {
      const response = await fetch(program.gateUrl + path, { signal: AbortSignal.timeout(5_000) });
      return { status: response.status, body: await response.text() };
    };
    return { ...program, gate };
  };
  /** In this process, for its time is not the machine's. */
  const startHurried = async (): Promise<Follower> => {
    const clock = createWallClock();
    clock.setRate(skewRate);
    // From then on its requests have as long as others'.
    strike.onTakeover(() => clock.setRate(1));
    const config = { leaderElect: true, leaderElectionNamespace: namespace };
    const controller = await startTestController(cluster, {
      namespaces: [namespace],
      server: second.server,
      config,
      clock,
    });
    return {
      gate: (path) => controller.gate(path),
      log: () => controller.logs.join("\n"),
      [Symbol.asyncDispose]: () => controller[Symbol.asyncDispose](),
    };
  };
  await using leader = await start(first);
  if (plan.how !== "off") await eventually(() => isHeld(cluster, namespace), { timeoutMs: 30_000 });
  await using follower = plan.how === "skew" ? await startHurried() : await start(second);
  strike.onLeader(leader);
  const ended = leader.ended().then((code) => ({ code, at: performance.now() }));
  await using gate = watchGate(cluster, {
    namespace,
    name: stageSetName,
    gate: (path) => follower.gate(path).catch(() => undefined),
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
      alone: plan.how !== "skew" && plan.how !== "off",
      onPublish: (revision, when) => (when === "before" ? gate.publishing(revision) : gate.published(revision)),
    });
    const exit = plan.how === "off" || !strike.struck() ? undefined : await ended;
    const firstWriteAt = strike.firstWriteAt();
    return {
      phases,
      counts: monitor.counts(),
      problems: [
        ...problems,
        ...monitor.violations,
        ...gate.violations(),
        ...bugsIn(leader.log()),
        ...bugsIn(follower.log()),
      ],
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

interface Follower extends AsyncDisposable {
  gate(path: string): Promise<{ readonly status: number; readonly body: string }>;
  log(): string;
}

interface Strike {
  /** Called at the second program's first write. */
  onTakeover(act: () => void): void;
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
  let takenOver: (() => void) | undefined;
  let lateWrites = 0;
  let secondWrites = 0;
  const goesOn = Promise.withResolvers<undefined>();
  const goOn = (): void => {
    if (leader !== undefined && struckAt !== undefined && isPausing(plan.how)) signal(leader.pid, "SIGCONT");
    goesOn.resolve(undefined);
  };
  proxies.first.onCall = async (call) => {
    if (plan.how === "skew" && struckAt !== undefined && call.target.includes("/leases/")) return { kind: "hang" };
    if (plan.how === "off" || call.write === 0) return undefined;
    if (firstWriteAt !== undefined) lateWrites++;
    if (plan.how === "skew" && struckAt !== undefined) return { kind: "delay", requestMs: slowWriteMs };
    if (struckAt !== undefined || call.write !== plan.write || leader === undefined) return undefined;
    struckAt = performance.now();
    if (plan.how === "skew") return { kind: "delay", requestMs: slowWriteMs };
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
      takenOver?.();
      void delay(longestPauseMs, undefined, { ref: false }).then(goOn);
    }
    if (++secondWrites === plan.after) goOn();
    return undefined;
  };
  return {
    onTakeover: (act) => (takenOver = act),
    onLeader: (program) => (leader = program),
    struck: () => struckAt !== undefined,
    firstWriteAt: () => firstWriteAt,
    lateWrites: () => lateWrites,
    goOn,
  };
}

function isPausing(how: LeaderPlan["how"]): boolean {
  return how === "pause" || how === "late";
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
