import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { startControlPlane } from "../../src/dev/control-plane.ts";
import { installCrds } from "../../src/dev/crds.ts";
import { asArray, asText, at } from "../../src/lib/json.ts";
import { publishArtifact, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { allRules, clusterOf, createServiceAccount, eventually, type TestCluster } from "../support/cluster.ts";
import { configMap, createStageSet, stageSetRef } from "../support/controller.ts";
import { bindInstallation, controllerToken } from "../support/controller-account.ts";
import { startControllerProcess, type ControllerProcess } from "../support/controller-process.ts";
import { startFaultProxy, type FaultProxy } from "../support/fault-proxy.ts";
import { startGateReaders, type GateSlot, type OpenAnswer } from "../support/gate-readers.ts";

const namespace = "stress";
const stageSetCount = 24;
const stages = ["config", "app"];
/** What must be reached, and how long that may take. */
const least = { answers: 100_000, changes: 500, open: 2_000 };
const giveUpMs = 420_000;
/** How long a change's writer waits for the stages to be Ready again before it makes the next change all the same. */
const reopenWithinMs = 5_000;
const watchDelaysMs = [0, 0, 50, 300, 1_000, 5_000];

/** From the API server's answer to a change that closes the gate until the last moment at which it was known to be closed. */
interface ClosedWindow {
  readonly from: number;
  until: number;
  readonly change: string;
  /** What may be open all the same: the first stage of a revision whose second one is broken. */
  readonly except: string | undefined;
}

/** One StageSet under change, and what is known of it. */
interface Subject {
  readonly name: string;
  readonly windows: ClosedWindow[];
  /** Revisions by number, each with the time its announcement was acknowledged. */
  readonly acknowledged: number[];
  /** Number of the ConfigMap the stages wait for; 0: of none. Each is another edit. */
  held: number;
}

interface Arena {
  readonly cluster: TestCluster;
  readonly server: ArtifactServer;
  readonly done: AbortSignal;
}

/** A closing write, and the one that lets the gate open again, if it does not by itself. */
interface Change {
  readonly kind: string;
  readonly close: () => Promise<unknown>;
  readonly reopen?: () => Promise<unknown>;
}

const spec = {
  serviceAccountName: "deployer",
  interval: "1h",
  retryInterval: "1s",
} as const;

function stagesOf(name: string, held: number) {
  const checks = [{ apiVersion: "v1", kind: "ConfigMap", name: `${name}-hold-${held}` }];
  return stages.map((stage) => ({
    name: stage,
    path: `./${stage}`,
    sourceRef: { name },
    ...(held > 0 ? { readyChecks: { checks } } : {}),
  }));
}

function files(name: string, revision: number, broken = false): Readonly<Record<string, string>> {
  const app = broken
    ? "apiVersion: v1\nkind: NoSuchKind\nmetadata:\n  name: broken\n"
    : configMap(`${name}-app`, { r: String(revision) });
  return { "config/a.yaml": configMap(`${name}-config`, { r: String(revision) }), "app/a.yaml": app };
}

function changesOf({ cluster, server }: Arena, subject: Subject): readonly Change[] {
  const { admin } = cluster;
  const { name } = subject;
  const ref = stageSetRef(namespace, name);
  const next = subject.held + 1;
  const hold = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: `${name}-hold-${next}`, namespace } };
  const publish = async (broken = false): Promise<void> => {
    const number = subject.acknowledged.length;
    await publishArtifact(cluster, {
      server,
      namespace,
      name,
      revision: `r${number}`,
      files: files(name, number, broken),
    });
    subject.acknowledged[number] = performance.now();
  };
  const create = (): Promise<unknown> =>
    createStageSet(cluster, { namespace, name, spec: { ...spec, stages: stagesOf(name, subject.held) } });
  return [
    {
      kind: "suspended",
      close: () => admin.patch(ref, { spec: { suspend: true } }),
      reopen: () => admin.patch(ref, { spec: { suspend: null } }),
    },
    { kind: "revision", close: () => publish() },
    { kind: "broken revision", close: () => publish(true), reopen: () => publish() },
    { kind: "edited", close: () => admin.patch(ref, { spec: { timeout: `${60 + Math.floor(performance.now())}s` } }) },
    {
      kind: "edited to wait",
      close: async () => {
        await admin.patch(ref, { spec: { stages: stagesOf(name, next) } });
        subject.held = next;
      },
      reopen: () => admin.create(hold),
    },
    {
      kind: "deleted",
      close: () => admin.delete(ref),
      reopen: async () => {
        await eventually(async () => (await admin.get(ref)) === undefined, { timeoutMs: 120_000, intervalMs: 100 });
        await create();
      },
    },
  ];
}

/** Whether a live look says that some stage may be open. */
async function mayBeOpen({ cluster: { admin } }: Arena, { name, acknowledged }: Subject): Promise<boolean> {
  const live = await admin.get(stageSetRef(namespace, name));
  const entries = asArray(at(live, "status", "stages"));
  return (
    at(live, "status", "observedGeneration") === live?.metadata.generation &&
    entries.some(
      (entry) => at(entry, "phase") === "Ready" && at(entry, "appliedRevision") === `r${acknowledged.length - 1}`,
    )
  );
}

async function allReady({ cluster: { admin } }: Arena, { name, acknowledged }: Subject): Promise<boolean> {
  const live = await admin.get(stageSetRef(namespace, name));
  const revisions = asArray(at(live, "status", "stages")).map(
    (entry) => `${asText(at(entry, "phase")) ?? ""} ${asText(at(entry, "appliedRevision")) ?? ""}`,
  );
  return (
    at(live, "status", "observedGeneration") === live?.metadata.generation &&
    revisions.length === stages.length &&
    revisions.every((each) => each === `Ready r${acknowledged.length - 1}`)
  );
}

/** Makes one change after the other until it is told to stop; an API server that is down is waited for. */
async function keepChanging(arena: Arena, subject: Subject, count: (kind: string) => void): Promise<void> {
  let turn = subject.name.length + Number(subject.name.slice(1));
  const insist = (write: () => Promise<unknown>): Promise<unknown> => {
    const succeeded = async (): Promise<boolean> => {
      await write();
      return true;
    };
    return eventually(succeeded, { timeoutMs: 240_000, intervalMs: 200 });
  };
  while (!arena.done.aborted) {
    const changes = changesOf(arena, subject);
    const change = changes[turn++ % changes.length];
    if (change === undefined) return;
    await insist(change.close);
    const except = change.kind === "broken revision" ? `r${subject.acknowledged.length - 1}` : undefined;
    const window: ClosedWindow = { from: performance.now(), until: 0, change: change.kind, except };
    window.until = change.reopen === undefined ? window.from : Infinity;
    subject.windows.push(window);
    count(change.kind);
    if (change.reopen !== undefined) {
      await delay(100 + ((turn * 37) % 300));
      window.until = performance.now();
      await insist(change.reopen);
    }
    const began = performance.now();
    while (performance.now() - began < reopenWithinMs) {
      const asked = performance.now();
      const isClosed = await mayBeOpen(arena, subject).then(
        (open) => !open,
        () => false,
      );
      if (isClosed) window.until = Math.max(window.until, asked);
      else if (await allReady(arena, subject).catch(() => false)) break;
      await delay(100);
    }
    await delay(1_000); // Open for a while, so that there is something to close.
  }
}

/** Why an open answer is wrong; undefined if it is right. */
function staleness(answer: OpenAnswer, subject: Subject): string | undefined {
  const window = subject.windows.find(
    ({ from, until, except }) => answer.began > from && answer.ended < until && answer.revision !== except,
  );
  const what = `${answer.name} on replica ${answer.slot} at ${answer.revision}`;
  if (window !== undefined)
    return `${what}: ${Math.round(answer.began - window.from)} ms after it was ${window.change}`;
  const newest = subject.acknowledged.findLastIndex((acknowledged) => acknowledged < answer.began);
  return Number(answer.revision.slice(1)) < newest ? `${what}: r${newest} was there` : undefined;
}

async function startReplica(cluster: TestCluster, proxy: FaultProxy): Promise<ControllerProcess> {
  return startControllerProcess({
    server: proxy.server,
    token: await controllerToken(cluster),
    namespaces: [namespace],
    args: ["--leader-elect", `--leader-election-namespace=${namespace}`, "--log-level=error"],
  });
}

async function leads({ metricsUrl }: ControllerProcess): Promise<boolean> {
  const text = await (await fetch(`${metricsUrl}/metrics`)).text();
  return /^leader_election_master_status(?:\{[^}]*\})? 1$/m.test(text);
}

test(
  "[40.36] over 100,000 answers from 16 connections on every replica, 500 changes, delayed watches, a restart of the API server and a killed leader: no stale 200",
  async () => {
    await using stack = new AsyncDisposableStack();
    const plane = stack.use(await startControlPlane());
    const cluster = clusterOf(plane);
    await installCrds({ ...cluster, token: plane.adminToken }, ["stageset", "flux"]);
    await cluster.admin.create({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
    await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
    await bindInstallation(cluster, { namespace });
    const server = stack.use(await startArtifactServer());
    const proxies = [stack.use(await startFaultProxy(cluster)), stack.use(await startFaultProxy(cluster))];
    const replicas = await Promise.all(proxies.map((proxy) => startReplica(cluster, proxy)));
    stack.defer(async () => {
      await Promise.all(replicas.map((replica) => replica.stop()));
    });
    const stop = new AbortController();
    const arena: Arena = { cluster, server, done: stop.signal };
    const subjects = Array.from({ length: stageSetCount }, (_, index): Subject => {
      return { name: `s${index}`, windows: [], acknowledged: [], held: 0 };
    });
    for (const { name, acknowledged } of subjects) {
      await publishArtifact(cluster, { server, namespace, name, revision: "r0", files: files(name, 0) });
      acknowledged.push(performance.now());
      await createStageSet(cluster, { namespace, name, spec: { ...spec, stages: stagesOf(name, 0) } });
    }
    const slots = replicas.map(({ gateUrl }): GateSlot => ({ url: gateUrl }));
    const paths = subjects.flatMap(({ name }) =>
      stages.map((stage) => ({ name, path: `/gate/${namespace}/${name}/${stage}` })),
    );
    const readers = startGateReaders({ slots, connections: 16, paths });
    const kinds = new Map<string, number>();
    let changes = 0;
    const writers = subjects.map((subject) =>
      keepChanging(arena, subject, (kind) => {
        changes++;
        kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
      }),
    );
    const delays = (async () => {
      for (let turn = 0; !stop.signal.aborted; turn++) {
        for (const [index, proxy] of proxies.entries())
          proxy.watchDelayMs = watchDelaysMs[(turn * (index + 1)) % watchDelaysMs.length] ?? 0;
        await delay(1_500);
      }
    })();
    const isLeaderThere = async (): Promise<number> =>
      (await Promise.all(replicas.map((replica) => leads(replica).catch(() => false)))).indexOf(true);
    const killLeader = async (): Promise<void> => {
      const index = await isLeaderThere();
      const [replica, proxy] = [replicas[index], proxies[index]];
      if (replica === undefined || proxy === undefined) throw new Error("nobody leads");
      replica.kill();
      await replica.ended();
      const fresh = await startReplica(cluster, proxy);
      replicas[index] = fresh;
      const slot = slots[index];
      if (slot !== undefined) slot.url = fresh.gateUrl;
      await eventually(async () => (await isLeaderThere()) >= 0, { timeoutMs: 240_000, intervalMs: 200 });
    };
    try {
      await delay(10_000);
      await plane.restartApiServer();
      await delay(10_000);
      await killLeader();
      await eventually(
        () =>
          Promise.resolve(
            readers.answers >= least.answers && changes >= least.changes && readers.open.length >= least.open,
          ),
        { timeoutMs: giveUpMs, intervalMs: 500 },
      );
    } finally {
      stop.abort();
      const numbers = Object.fromEntries([...readers.counts].sort(([a], [b]) => a - b));
      const summary = { answers: readers.answers, ...numbers, changes, kinds: Object.fromEntries(kinds) };
      process.stderr.write(`gate stress: ${JSON.stringify(summary)}\n`);
      await readers[Symbol.asyncDispose]();
      await Promise.all([...writers, delays]);
    }
    const stale = readers.open.flatMap((answer) => {
      const subject = subjects.find(({ name }) => name === answer.name);
      return subject === undefined ? [] : (staleness(answer, subject) ?? []);
    });
    process.stderr.write(`gate stress: ${stale.length} stale of ${readers.open.length} open answers\n`);
    expect(stale.slice(0, 10)).toEqual([]);
    for (const slot of slots.keys())
      expect(readers.open.filter((answer) => answer.slot === slot).length).toBeGreaterThan(200);
  },
  giveUpMs + 120_000,
);
