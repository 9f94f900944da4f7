import { setTimeout as delay } from "node:timers/promises";
import { asArray, asText, at } from "../../src/lib/json.ts";
import type { ArtifactServer } from "../support/artifacts.ts";
import { eventually, type TestCluster } from "../support/cluster.ts";
import { bindInstallation, controllerToken } from "../support/controller-account.ts";
import { stageSetRef, startTestController, type TestController } from "../support/controller.ts";
import { startControllerProcess, type ControllerProcess } from "../support/controller-process.ts";
import { startFaultProxy, type Fault, type FaultProxy, type SeenCall } from "../support/fault-proxy.ts";
import { live, prepareLife, stageSetName } from "./life.ts";
import { createMonitor } from "./monitor.ts";
import { isKill, type AnswerFault, type FaultPlan, type PlannedFault, type RunSize, type StaleStart } from "./plan.ts";
import { watchGate } from "./gate-oracle.ts";
import { createWallClock, type WallClock } from "../support/wall-clock.ts";

/** What one run came to. `struck`: faults that happened; a run that needs fewer requests does not reach all. */
export interface RunResult {
  readonly phases: Readonly<Record<string, unknown>>;
  readonly counts: Readonly<Record<string, string>>;
  readonly problems: readonly string[];
  readonly struck: readonly PlannedFault[];
  readonly size: RunSize;
  /** Without the time it was watched to be quiet. */
  readonly seconds: number;
  readonly namespace: string;
  /** Seconds from the start to the end of each wait. */
  readonly times: Readonly<Record<string, number>>;
}

export interface RunOptions {
  readonly cluster: TestCluster;
  readonly server: ArtifactServer;
  readonly plan: FaultPlan;
  /** Default 120 s for each of its five phases. */
  readonly phaseTimeoutMs?: number;
}

/** How long what is frozen stays so when too few writes follow. */
const longestFreezeMs = 3_000;
const delayMs = 700;
const slowMs = 1_500;
/** Two intervals: what a fault left undone is done. */
const settleMs = 4_000;

/** One life of the reference release with the plan's faults; the program is started again whenever it was killed. */
export async function runPlan(options: RunOptions): Promise<RunResult> {
  const { cluster, server, plan } = options;
  const started = performance.now();
  const namespace = await prepareLife(cluster);
  await using proxy = await startFaultProxy(cluster);
  const clock = createWallClock();
  const faults = createFaults(proxy, { plan, clock });
  const monitor = createMonitor(cluster, { namespace, name: stageSetName });
  monitor.attach(proxy, await controllerToken(cluster));
  await bindInstallation(cluster, { namespace });
  await using controller = createRunner({
    cluster,
    proxy,
    namespace,
    clock,
    asProgram: plan.faults.some(isProgramFault),
    elects: plan.faults.some((fault) => fault.on === "write" && fault.stale !== undefined),
    onRestart: () => faults.restart(),
  });
  faults.onKill = (how) => controller.kill(how);
  await controller.start();
  await using gate = watchGate(cluster, { namespace, name: stageSetName, gate: (path) => controller.gate(path) });
  const timeoutMs = options.phaseTimeoutMs ?? 120_000;
  const times: Record<string, number> = {};
  const until = async (what: string, look: () => Promise<boolean>): Promise<void> => {
    try {
      await eventually(
        async () => {
          await controller.revive();
          return look();
        },
        { timeoutMs, intervalMs: 150 },
      );
      times[what] = Math.round((performance.now() - started) / 100) / 10;
    } catch (error) {
      const state = await describeState(cluster, namespace);
      throw new Error(`not ${what} in time\n${state}\n${notable(controller.log())}`, { cause: error });
    }
  };
  const writes = (): number => proxy.calls.filter((call) => call.write > 0).length;
  let quietMs = 0;
  const settled = async (): Promise<void> => {
    faults.end();
    const restMs = plan.faults.length === 0 ? 0 : settleMs;
    await delay(restMs);
    await controller.revive();
    quietMs = restMs + (plan.quietMs ?? 0);
  };
  const { phases, problems } = await live({
    cluster,
    server,
    namespace,
    until,
    onPublish: (revision, when) => (when === "before" ? gate.publishing(revision) : gate.published(revision)),
    ...(plan.quietMs === undefined ? {} : { quiet: { begin: settled, ms: plan.quietMs, writes } }),
  });
  faults.end();
  return {
    phases,
    counts: monitor.counts(),
    problems: [...problems, ...monitor.violations, ...gate.violations(), ...bugsIn(controller.log())],
    struck: faults.struck(),
    size: { writes: writes(), reads: proxy.calls.filter((call) => call.read > 0).length, events: proxy.events },
    seconds: (performance.now() - started - quietMs) / 1_000,
    namespace,
    times,
  };
}

/** Lines of a log that no fault explains (O7 of the fault tests). */
export function bugsIn(log: string): readonly string[] {
  return log.split("\n").filter((line) => /unexpected reason|unhandled|does not end|refused to \w+ stage/i.test(line));
}

/** What the API server shows of a run that does not get on. */
async function describeState({ admin }: TestCluster, namespace: string): Promise<string> {
  const stageSet = await admin.get(stageSetRef(namespace, stageSetName));
  const deployments = await admin.list({ apiVersion: "apps/v1", kind: "Deployment", namespace });
  return JSON.stringify([stageSet?.["status"], deployments.map((each) => [each.metadata.generation, each["status"]])]);
}

/** The end of a log without what the gate answered. */
function notable(log: string): string {
  const lines = log.split("\n").filter((line) => !line.includes('"logger":"gate"'));
  return lines.join("\n").slice(-3_000);
}

/** What differs from a run without faults; empty when nothing does. */
export function differences(result: RunResult, clean: Pick<RunResult, "phases" | "counts">): readonly string[] {
  const problems = [...result.problems];
  for (const [phase, wanted] of Object.entries(clean.phases)) {
    const difference = firstDifference(result.phases[phase], wanted, phase);
    if (difference !== undefined) problems.push(difference);
  }
  const counts = firstDifference(result.counts, clean.counts, "creates and deletes");
  return counts === undefined ? problems : [...problems, counts];
}

function firstDifference(actual: unknown, wanted: unknown, where: string): string | undefined {
  if (JSON.stringify(actual) === JSON.stringify(wanted)) return undefined;
  if (typeof actual !== "object" || typeof wanted !== "object" || actual === null || wanted === null)
    return `${where}: ${JSON.stringify(actual)} instead of ${JSON.stringify(wanted)}`;
  const isList = Array.isArray(actual) && Array.isArray(wanted);
  if (isList && asArray(actual).length !== asArray(wanted).length)
    return `${where}: ${JSON.stringify(actual)} instead of ${JSON.stringify(wanted)}`;
  const members: Readonly<Record<string, unknown>> = { ...wanted };
  const given: Readonly<Record<string, unknown>> = { ...actual };
  for (const key of new Set([...Object.keys(members), ...Object.keys(given)])) {
    const difference = firstDifference(given[key], members[key], `${where}.${key}`);
    if (difference !== undefined) return difference;
  }
  return undefined; // Equal but for the order of members.
}

function isProgramFault(fault: PlannedFault): boolean {
  return fault.on === "write" && isKill(fault.do);
}

interface Faults {
  onKill: ((how: "SIGKILL" | "SIGTERM") => void) | undefined;
  /** The program is about to be started again. */
  restart(): void;
  struck(): readonly PlannedFault[];
  /** Nothing goes wrong any more. */
  end(): void;
}

function createFaults(
  proxy: FaultProxy,
  { plan, clock }: { readonly plan: FaultPlan; readonly clock: WallClock },
): Faults {
  const left = new Set(plan.faults);
  const struck: PlannedFault[] = [];
  const state: { onKill: Faults["onKill"] } = { onKill: undefined };
  const take = (matches: (fault: PlannedFault) => boolean): PlannedFault | undefined => {
    for (const fault of left)
      if (matches(fault)) {
        left.delete(fault);
        struck.push(fault);
        return fault;
      }
    return undefined;
  };
  const stale = createStaleLists();
  let atAnswer: { readonly write: number; readonly how: "SIGKILL" | "SIGTERM" } | undefined;
  let atSent: number | undefined;
  /** Answered writes after which what is frozen goes on. */
  let frozenFor = 0;
  proxy.onCall = (call): Fault | undefined => {
    const older = stale.target(call);
    if (older !== undefined) return { kind: "rewrite", target: older };
    const jump = take((each) => each.on === "clock" && call.write === each.number);
    if (jump?.on === "clock") clock.jump(jump.ms);
    const pace = take((each) => each.on === "rate" && call.write === each.number);
    if (pace?.on === "rate") clock.setRate(pace.rate);
    const fault = take(
      (each) =>
        (each.on === "write" && call.write === each.number) || (each.on === "read" && call.read === each.number),
    );
    if (fault?.on !== "write" && fault?.on !== "read") return undefined;
    if (fault.on === "write" && fault.stale !== undefined) stale.plan(fault.stale);
    switch (fault.do) {
      case "kill.before":
        state.onKill?.("SIGKILL");
        return { kind: "drop" };
      case "kill.committed":
        atAnswer = { write: call.write, how: "SIGKILL" };
        return { kind: "swallow" };
      case "term":
        atAnswer = { write: call.write, how: "SIGTERM" };
        return undefined;
      case "kill.answered":
        atSent = call.write;
        return undefined;
      default:
        return answerFault(fault.do);
    }
  };
  proxy.onAnswer = (call, status, body) => {
    if (call.write > 0 && frozenFor > 0 && --frozenFor === 0) proxy.release();
    if (call.write > 0 && status < 300) stale.note(body);
    if (atAnswer === undefined || call.write !== atAnswer.write) return;
    const { how } = atAnswer;
    atAnswer = undefined;
    state.onKill?.(how);
  };
  proxy.onSent = (call) => {
    if (call.write === 0 || call.write !== atSent) return;
    atSent = undefined;
    state.onKill?.("SIGKILL");
  };
  const timers = new Set<NodeJS.Timeout>();
  proxy.onEvent = ({ kind, number }) => {
    const fault = take((each) => each.on === "event" && each.kind === kind && each.number === number);
    if (fault?.on !== "event") return undefined;
    if (fault.do === "freeze") {
      frozenFor = Math.max(frozenFor, fault.writes ?? 1);
      timers.add(setTimeout(() => proxy.release(), longestFreezeMs));
    }
    return fault.do === "delay" ? { delayMs } : fault.do;
  };
  return Object.assign(state, {
    restart: () => stale.arm(),
    struck: () => struck,
    end: () => {
      left.clear();
      proxy.release();
      for (const timer of timers) clearTimeout(timer);
    },
  });
}

/**
 * What a restarted program is first shown of some kinds: real lists, of an older version. Whoever takes a lease over
 * reads StageSets and inventories anew, which therefore shows them as they are.
 */
function createStaleLists() {
  const versions: string[] = [];
  let planned: StaleStart | undefined;
  let version: string | undefined;
  const left = new Set<string>();
  return {
    plan: (stale: StaleStart) => void (planned = stale),
    /** The answer to an acknowledged write. */
    note(body: string): void {
      const written = body.startsWith("{") ? asText(at(JSON.parse(body), "metadata", "resourceVersion")) : undefined;
      if (written !== undefined && written !== "") versions.push(written);
    },
    arm(): void {
      if (planned === undefined) return;
      version = versions[Math.max(0, versions.length - 1 - planned.writes)];
      for (const kind of planned.kinds) left.add(kind);
      planned = undefined;
    },
    target(call: SeenCall): string | undefined {
      if (version === undefined || call.method !== "GET" || call.isWatch) return undefined;
      const kind = /\/([a-z]+)(?:\?|$)/.exec(call.target)?.[1] ?? "";
      if (!left.delete(kind)) return undefined;
      const joint = call.target.includes("?") ? "&" : "?";
      return `${call.target}${joint}resourceVersion=${version}&resourceVersionMatch=Exact`;
    },
  };
}

/** What the proxy does for it. */
export function answerFault(fault: AnswerFault): Fault {
  switch (fault) {
    case "drop":
    case "swallow":
    case "truncate":
    case "hang":
    case "trickle":
      return { kind: fault };
    case "slow":
      return { kind: "delay", requestMs: slowMs, answerMs: slowMs };
    default: {
      const [code = "", committed] = fault.split(".");
      const status = Number(code);
      const reasons: Readonly<Record<string, string>> = {
        409: "Conflict",
        410: "Expired",
        429: "TooManyRequests",
        500: "InternalError",
        503: "ServiceUnavailable",
        504: "Timeout",
      };
      const body = {
        kind: "Status",
        apiVersion: "v1",
        status: "Failure",
        reason: reasons[code],
        code: status,
        message: `injected ${code}`,
        details: status === 409 ? { name: "injected" } : {},
      };
      return {
        kind: "answer",
        status,
        body,
        ...(status === 429 ? { headers: { "retry-after": "1" } } : {}),
        afterCommit: committed !== undefined,
      };
    }
  }
}

interface Runner extends AsyncDisposable {
  start(): Promise<void>;
  kill(how: "SIGKILL" | "SIGTERM"): void;
  /** Starts it again if it was killed. */
  revive(): Promise<void>;
  gate(path: string): Promise<{ readonly status: number; readonly body: string } | undefined>;
  log(): string;
}

export function leaseFlags(namespace: string): readonly string[] {
  return ["--leader-elect", `--leader-election-namespace=${namespace}`];
}

export function leaseOf(namespace: string) {
  const metadata = { name: "stageset-controller.stages.metio.wtf", namespace };
  return { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata } as const;
}

/** The program itself where it is to be killed, else the controller in this process, which starts faster. */
function createRunner(options: {
  readonly cluster: TestCluster;
  readonly proxy: FaultProxy;
  readonly namespace: string;
  /** Of the controller in this process. */
  readonly clock: WallClock;
  readonly asProgram: boolean;
  /** The program leads by a lease, which is free as soon as it died. */
  readonly elects: boolean;
  readonly onRestart: () => void;
}): Runner {
  const { cluster, proxy, namespace, clock } = options;
  let program: ControllerProcess | undefined;
  let controller: TestController | undefined;
  let killed = false;
  let earlier = "";
  const start = async (): Promise<void> => {
    if (options.asProgram)
      program = await startControllerProcess({
        server: proxy.server,
        token: await controllerToken(cluster),
        namespaces: [namespace],
        args: ["--log-level=debug", ...(options.elects ? leaseFlags(namespace) : [])],
        untilReady: false,
      });
    else controller = await startTestController(cluster, { namespaces: [namespace], server: proxy.server, clock });
  };
  return {
    start,
    kill(how) {
      killed = true;
      if (how === "SIGKILL") program?.kill();
      else process.kill(program?.pid ?? 0, "SIGTERM");
    },
    async revive() {
      if (!killed) return;
      killed = false;
      await program?.ended();
      earlier += program?.log() ?? "";
      await program?.stop();
      if (options.elects) await cluster.admin.delete(leaseOf(namespace));
      options.onRestart();
      await start();
    },
    async gate(path) {
      try {
        if (program === undefined) return await controller?.gate(path);
        const response = await fetch(program.gateUrl + path, { signal: AbortSignal.timeout(5_000) });
        return { status: response.status, body: await response.text() };
      } catch {
        return undefined; // It is down, or not up yet.
      }
    },
    log: () => earlier + (program?.log() ?? controller?.logs.join("\n") ?? ""),
    async [Symbol.asyncDispose]() {
      await program?.stop();
      await controller?.[Symbol.asyncDispose]();
    },
  };
}
