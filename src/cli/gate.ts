import { artifactsOf, type SourceTarget } from "../domain/pins.ts";
import { stageReadiness, stageSource, type StageReadiness } from "../domain/stage-readiness.ts";
import { sourceResource } from "../engine/flux-sources.ts";
import { asKubeObject } from "../engine/kube-answer.ts";
import { stageSets } from "../engine/resources.ts";
import { KubeError } from "../kube/error.ts";
import { getRequest, listRequest } from "../kube/request.ts";
import { deadline, DeadlineExceeded } from "../lib/abort.ts";
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
/** How long one answer may take; while waiting no longer than there is time, but never less than a second. */
const askTimeoutMs = 10_000;

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
 * out of time (spec 70 §9.4). While it waits, a gate or an API server that cannot be reached is asked again.
 *
 * @throws {CommandFailed} when it cannot be told
 */
export async function runGate(name: string, flags: GateFlags, io: CommandIo): Promise<number> {
  const stack = new AsyncDisposableStack();
  await using _closed = stack;
  const hub = flags.url === undefined ? stack.use(await openHub(flags, io)) : undefined;
  const namespace = hub?.namespace ?? flags.namespace ?? "default";
  const wanted = { namespace, stageSet: name, stage: flags.stage };
  const endsAt = flags.wait && flags.timeoutMs > 0 ? io.clock.monotonic() + flags.timeoutMs : Infinity;
  for (;;) {
    const timeoutMs = Math.max(1_000, Math.min(askTimeoutMs, endsAt - io.clock.monotonic()));
    using limit = deadline(io.clock, { timeoutMs, what: "asking", parent: io.signal });
    const { signal } = limit;
    const ask = hub === undefined ? askGate(flags.url ?? "", wanted, signal) : askServer(hub, wanted, signal);
    const asked = await ask.catch((error: unknown) => (mayPass(error) ? error : Promise.reject(asError(error))));
    const leftMs = endsAt - io.clock.monotonic();
    if (asked instanceof CommandFailed) {
      if (!flags.wait || leftMs <= 0) throw asked;
    } else {
      const verdict = atRevision(asked, flags.revision);
      if (verdict.ready || !flags.wait || leftMs <= 0) {
        const text = flags.output === "json" ? JSON.stringify(verdict, undefined, 2) : renderVerdict(asked, flags);
        io.out(`${text}\n`);
        return verdict.ready ? exitCodes.done : exitCodes.finding;
      }
    }
    await sleep(io.clock, Math.min(askEveryMs, leftMs), io.signal);
  }
}

/** A failure that waiting may cure: not a refusal. */
function mayPass(error: unknown): error is CommandFailed {
  const { cause } = error instanceof CommandFailed ? error : {};
  const refusals: readonly string[] = ["Forbidden", "Unauthorized"];
  return error instanceof CommandFailed && !(cause instanceof KubeError && refusals.includes(cause.reason));
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
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

function renderVerdict(verdict: Verdict, wanted: { readonly revision?: string }): string {
  const { namespace, stageset, stage, revision = "", phase, reason } = verdict;
  const name = `stage ${namespace}/${stageset}/${stage}`;
  if (verdict.ready && [undefined, revision].includes(wanted.revision)) return `${name} is Ready at ${revision}`;
  if (verdict.ready) return `${name} is Ready at ${revision}, not at ${wanted.revision ?? ""}`;
  return `${name} is not ready: ${phase === undefined ? "" : `${phase}, `}${reason}`;
}

/** Live reads as the caller, the StageSet before its source, as the gate itself makes them. */
async function askServer(hub: Hub, wanted: Wanted, signal: AbortSignal): Promise<Verdict> {
  try {
    const live = await read(hub, wanted, signal);
    const target = live === undefined ? undefined : stageSource(live, wanted.stage);
    const source = target === undefined ? undefined : await readSource(hub, target, signal);
    return verdictOf(
      wanted,
      stageReadiness(live, wanted.stage, () => source),
    );
  } catch (error) {
    if (error instanceof KubeError) throw new CommandFailed(error.message, { cause: error });
    if (signal.reason instanceof DeadlineExceeded)
      throw new CommandFailed(`Cannot ask the API server: ${signal.reason.message}`, { cause: error });
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

async function read(hub: Hub, { namespace, stageSet }: Wanted, signal: AbortSignal): Promise<KubeObject | undefined> {
  try {
    return asKubeObject(await hub.client.send(getRequest(stageSets, { namespace, name: stageSet }), { signal }));
  } catch (error) {
    if (error instanceof KubeError && error.reason === "NotFound") return undefined;
    throw error;
  }
}

/** The source a stage refers to, as it is now; undefined: there is none, or several. */
export async function readSource(hub: Hub, target: SourceTarget, signal: AbortSignal): Promise<KubeObject | undefined> {
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

/** What `fetch` says is that it failed; why is in its causes. */
function causeOf(error: unknown): string {
  if (error instanceof SyntaxError) return "the answer is not that of a gate";
  if (!(error instanceof Error)) return String(error);
  if (error.cause !== undefined) return causeOf(error.cause);
  return error.message === "" && "code" in error ? String(error.code) : error.message;
}

/** Asks a gate over HTTP. */
async function askGate(base: string, wanted: Wanted, signal: AbortSignal): Promise<Verdict> {
  const path = [wanted.namespace, wanted.stageSet, wanted.stage].map(encodeURIComponent).join("/");
  const url = `${base.replace(/\/+$/, "")}/gate/${path}`;
  let status: number;
  let body: unknown;
  try {
    const response = await fetch(url, {
      headers: { accept: "application/json" },
      redirect: "error",
      signal,
    });
    status = response.status;
    body = JSON.parse(await response.text());
  } catch (error) {
    throw new CommandFailed(`Cannot ask "${url}": ${causeOf(error)}`, { cause: error });
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
