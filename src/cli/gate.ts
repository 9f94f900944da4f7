import { artifactsOf, type SourceTarget } from "../domain/pins.ts";
import { stageReadiness, stageSource, type StageReadiness } from "../domain/stage-readiness.ts";
import { sourceResource } from "../engine/flux-sources.ts";
import { asKubeObject } from "../engine/journal.ts";
import { stageSets } from "../engine/resources.ts";
import { KubeError } from "../kube/error.ts";
import { getRequest, listRequest } from "../kube/request.ts";
import { deadline } from "../lib/abort.ts";
import { sleep } from "../lib/clock.ts";
import { asArray, asObject, asText, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { CommandFailed, exitCodes, type CommandIo } from "./command-io.ts";
import { openHub, type Hub, type HubFlags } from "./hub.ts";

export interface GateFlags extends HubFlags {
  readonly stage: string;
  /** Open only at this revision. */
  readonly revision?: string;
  /** Base of a gate, such as `http://127.0.0.1:8082`; absent: the API server is asked, with the caller's rights. */
  readonly url?: string;
  readonly wait: boolean;
  /** Bound of `wait`, ms; 0 waits for ever. */
  readonly timeoutMs: number;
  readonly output: "text" | "json";
}

/** How often a closed gate is asked again. */
const askEveryMs = 1_000;
const httpTimeoutMs = 10_000;

/** The gate's answer, as its JSON dialect has it (spec 40 §8.3). */
interface Verdict {
  readonly ready: boolean;
  readonly namespace: string;
  readonly stageset: string;
  readonly stage: string;
  readonly phase?: string;
  readonly revision?: string;
  readonly reason: string;
}

/**
 * `stagesetctl gate`: 0 when the stage is Ready at its pinned revision, 1 when it is not, also when waiting for it ran
 * out of time (spec 70 §9.4).
 *
 * @throws {CommandFailed} when it cannot be told
 */
export async function runGate(name: string, flags: GateFlags, io: CommandIo): Promise<number> {
  const stack = new AsyncDisposableStack();
  await using _closed = stack;
  const hub = flags.url === undefined ? stack.use(await openHub(flags, io)) : undefined;
  const namespace = hub?.namespace ?? flags.namespace ?? "default";
  const wanted = { namespace, stageSet: name, stage: flags.stage };
  const began = io.clock.monotonic();
  for (;;) {
    const asked = hub === undefined ? await askGate(flags.url ?? "", wanted, io) : await askServer(hub, wanted, io);
    const verdict = atRevision(asked, flags.revision);
    const timeLeft = flags.timeoutMs === 0 || io.clock.monotonic() - began < flags.timeoutMs;
    if (verdict.ready || !flags.wait || !timeLeft) {
      io.out(flags.output === "json" ? `${JSON.stringify(verdict, undefined, 2)}\n` : `${renderVerdict(verdict)}\n`);
      return verdict.ready ? exitCodes.done : exitCodes.finding;
    }
    await sleep(io.clock, askEveryMs, io.signal);
  }
}

interface Wanted {
  readonly namespace: string;
  readonly stageSet: string;
  readonly stage: string;
}

function atRevision(verdict: Verdict, revision: string | undefined): Verdict {
  if (revision === undefined || !verdict.ready || verdict.revision === revision) return verdict;
  return { ...verdict, ready: false, reason: "RevisionPending" };
}

function renderVerdict(verdict: Verdict): string {
  const { namespace, stageset, stage, revision, phase, reason } = verdict;
  const name = `stage ${namespace}/${stageset}/${stage}`;
  if (verdict.ready) return `${name} is Ready at ${revision ?? ""}`;
  return `${name} is not ready: ${phase === undefined ? "" : `${phase}, `}${reason}`;
}

/** Live reads as the caller, the StageSet before its source, as the gate itself makes them. */
async function askServer(hub: Hub, wanted: Wanted, io: CommandIo): Promise<Verdict> {
  try {
    const live = await read(hub, wanted, io);
    const target = live === undefined ? undefined : stageSource(live, wanted.stage);
    const source = target === undefined ? undefined : await readSource(hub, target, io);
    return verdictOf(
      wanted,
      stageReadiness(live, wanted.stage, () => source),
    );
  } catch (error) {
    if (error instanceof KubeError) throw new CommandFailed(error.message, { cause: error });
    throw error;
  }
}

function verdictOf({ namespace, stageSet, stage }: Wanted, answer: StageReadiness): Verdict {
  const { phase, revision } = answer;
  return {
    ready: answer.kind === "ready",
    namespace,
    stageset: stageSet,
    stage,
    ...(phase === undefined ? {} : { phase }),
    ...(revision === undefined ? {} : { revision }),
    reason: answer.kind === "ready" ? "Ready" : answer.reason,
  };
}

async function read(hub: Hub, { namespace, stageSet }: Wanted, { signal }: CommandIo): Promise<KubeObject | undefined> {
  try {
    return asKubeObject(await hub.client.send(getRequest(stageSets, { namespace, name: stageSet }), { signal }));
  } catch (error) {
    if (error instanceof KubeError && error.reason === "NotFound") return undefined;
    throw error;
  }
}

async function readSource(hub: Hub, target: SourceTarget, { signal }: CommandIo): Promise<KubeObject | undefined> {
  const kind = target.mode === "direct" ? target.kind : "ExternalArtifact";
  const version = target.mode === "direct" ? target.version : undefined;
  const resource = await sourceResource(hub.discovery, { kind, version }, signal);
  if (resource === undefined) return undefined;
  const { namespace, name } = target;
  const typed = { apiVersion: `${resource.group}/${resource.version}`, kind };
  if (target.mode === "producer") {
    const list = await hub.client.send(listRequest(resource, { namespace }), { signal });
    const items = asArray(at(list, "items")).map((item) => asKubeObject({ ...typed, ...asObject(item) }));
    const matching = artifactsOf(target, items);
    return matching.length === 1 ? matching[0] : undefined;
  }
  try {
    return asKubeObject(await hub.client.send(getRequest(resource, { namespace, name }), { signal }));
  } catch (error) {
    if (error instanceof KubeError && error.reason === "NotFound") return undefined;
    throw error;
  }
}

/** Asks a gate over HTTP. */
async function askGate(base: string, wanted: Wanted, io: CommandIo): Promise<Verdict> {
  const path = [wanted.namespace, wanted.stageSet, wanted.stage].map(encodeURIComponent).join("/");
  const url = `${base.replace(/\/$/, "")}/gate/${path}`;
  using limit = deadline(io.clock, { timeoutMs: httpTimeoutMs, what: `asking "${url}"`, parent: io.signal });
  let status: number;
  let body: unknown;
  try {
    const response = await fetch(url, {
      headers: { accept: "application/json" },
      redirect: "error",
      signal: limit.signal,
    });
    status = response.status;
    body = JSON.parse(await response.text());
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CommandFailed(`Cannot ask "${url}": ${why}`, { cause: error });
  }
  const ready = at(body, "ready");
  if (status !== 200 || typeof ready !== "boolean")
    throw new CommandFailed(`Cannot tell: "${url}" answered ${status} ${asText(at(body, "error")) ?? ""}`.trimEnd());
  const phase = asText(at(body, "phase"));
  const revision = asText(at(body, "revision"));
  return {
    ready,
    namespace: wanted.namespace,
    stageset: wanted.stageSet,
    stage: wanted.stage,
    ...(phase === undefined ? {} : { phase }),
    ...(revision === undefined ? {} : { revision }),
    reason: asText(at(body, "reason")) ?? "",
  };
}
