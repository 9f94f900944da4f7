import { stageSetPage, type StageSetPage } from "../domain/why/view.ts";
import { stagesOf } from "../domain/why/stage-cause.ts";
import { timestamp } from "../domain/status.ts";
import { stageSets } from "../engine/resources.ts";
import { startCache, type ResourceCache } from "../kube/cache.ts";
import { deadline, DeadlineExceeded } from "../lib/abort.ts";
import { sleep } from "../lib/clock.ts";
import { formatDuration } from "../lib/duration.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { CommandFailed, exitCodes, type CommandIo } from "./command-io.ts";
import { openHub, type Hub, type HubFlags } from "./hub.ts";
import { listStageSets, readStageSet } from "./read-stage-sets.ts";
import { phaseOf, renderTree } from "./tree.ts";
import { printable } from "./text.ts";

export interface FollowFlags extends HubFlags {
  readonly allNamespaces: boolean;
  readonly output: "" | "json";
  readonly selector?: string;
  readonly objects: "unready" | "none";
  /** `ready`, or a stage. */
  readonly until?: string;
  /** 0: without limit. */
  readonly timeoutMs: number;
}

/** A terminal is drawn anew at most this often, and this often for the sake of its clocks (spec 70 §9.3). */
const soonestDrawMs = 200;
const clockDrawMs = 1_000;

/**
 * `stagesetctl get -w`: a tree that is drawn anew on a terminal, elsewhere a line for each change. Ends 0 when what `--until`
 * names is reached, and never by itself without it.
 *
 * @throws {CommandFailed} it cannot be read, has failed, is gone, or time is up
 */
export async function runFollow(name: string | undefined, flags: FollowFlags, io: CommandIo): Promise<number> {
  await using hub = await openHub(flags, io);
  await check(hub, { name, flags }, io);
  await using cache = startCache<KubeObject>({
    client: hub.client,
    resource: stageSets,
    namespaces: flags.allNamespaces ? undefined : [hub.namespace],
    fieldSelector: name === undefined ? undefined : `metadata.name=${name}`,
    labelSelector: flags.selector,
    project: (object) => object,
    clock: io.clock,
  });
  using limit =
    flags.timeoutMs > 0
      ? deadline(io.clock, { timeoutMs: flags.timeoutMs, what: "waiting", parent: io.signal })
      : { signal: io.signal, [Symbol.dispose]: () => undefined };
  try {
    await cache.whenSynced(limit.signal);
    return await follow(cache, { name, flags, signal: limit.signal }, io);
  } catch (error) {
    if (!(error instanceof DeadlineExceeded)) throw error;
    throw new CommandFailed(
      `timed out after ${formatDuration(flags.timeoutMs)}${flags.until === undefined ? "" : ` waiting for ${flags.until}`}`,
      { cause: error },
    );
  }
}

/** What is missing, or may not be read, is said at once. */
async function check(
  hub: Hub,
  { name, flags }: { readonly name: string | undefined; readonly flags: FollowFlags },
  io: CommandIo,
): Promise<void> {
  if (name === undefined) {
    await listStageSets(hub, { namespace: flags.allNamespaces ? undefined : hub.namespace, limit: 1 }, io);
    return;
  }
  const { stageSet } = await readStageSet(hub, { namespace: hub.namespace, name }, io);
  const { until } = flags;
  if (until === undefined || until === "ready" || stagesOf(stageSet).some((stage) => stage.name === until)) return;
  throw new CommandFailed(`StageSet "${hub.namespace}/${name}" has no stage "${until}"`);
}

interface Following {
  readonly name: string | undefined;
  readonly flags: FollowFlags;
  readonly signal: AbortSignal;
}

async function follow(
  cache: ResourceCache<KubeObject>,
  { name, flags, signal }: Following,
  io: CommandIo,
): Promise<number> {
  const isDrawn = io.columns !== undefined && flags.output === "";
  const tell = isDrawn ? undefined : createTeller(flags, io);
  const ended = Promise.withResolvers<number>();
  let wake = Promise.withResolvers<undefined>();
  const seen = (object: KubeObject): void => {
    const page = pageOf(object, io);
    tell?.(page);
    const outcome = outcomeOf(page, flags);
    if (outcome?.kind === "reached") ended.resolve(exitCodes.done);
    if (outcome?.kind === "failed") ended.reject(new CommandFailed(outcome.why));
    wake.resolve(undefined);
  };
  for (const object of cache.list()) seen(object);
  using _changes = cache.subscribe(({ type, object }) => {
    if (type !== "deleted") seen(object);
    else if (name !== undefined)
      ended.reject(new CommandFailed(`StageSet "${object.metadata.namespace ?? ""}/${name}" is gone`));
    else wake.resolve(undefined);
  });
  const over = ended.promise.then((code) => ({ code }));
  over.catch(() => undefined);
  for (let drawn = 0; ;) {
    if (isDrawn) drawn = draw(cache, { flags, drawn }, io);
    wake = Promise.withResolvers<undefined>();
    const soonest = isDrawn ? sleep(io.clock, soonestDrawMs, signal) : Promise.resolve();
    const next = Promise.all([soonest, Promise.race([wake.promise, sleep(io.clock, clockDrawMs, signal)])]);
    const done = await Promise.race([over, next.then(() => undefined)]);
    if (done === undefined) continue;
    next.catch(() => undefined);
    if (isDrawn) draw(cache, { flags, drawn }, io);
    return done.code;
  }
}

function pageOf(stageSet: KubeObject, io: CommandIo): StageSetPage {
  return stageSetPage({ stageSet, now: io.clock.now() });
}

type Outcome = { readonly kind: "reached" } | { readonly kind: "failed"; readonly why: string };

/** Whether what is waited for is there, or will not be. */
function outcomeOf(page: StageSetPage, { until }: FollowFlags): Outcome | undefined {
  if (until === undefined || page.observedGeneration !== page.generation) return undefined;
  const isReached =
    until === "ready"
      ? page.ready.status === "True"
      : page.stages.some((stage) => stage.name === until && phaseOf(stage) === "Ready");
  if (isReached) return { kind: "reached" };
  if (page.state !== "failing") return undefined;
  const why = page.cause?.message ?? page.message;
  return { kind: "failed", why: `StageSet "${page.namespace}/${page.name}" has failed: ${printable(why)}` };
}

/** Lines for stages that read otherwise than before. */
function createTeller({ output }: FollowFlags, io: CommandIo): (page: StageSetPage) => void {
  const before = new Map<string, string>();
  return (page) => {
    for (const stage of page.stages) {
      const phase = phaseOf(stage);
      const message =
        stage.message ??
        (stage.gate?.until === undefined ? undefined : `until ${stage.gate.until}`) ??
        stage.objects.map((object) => `${object.kind}/${object.name} ${object.message || object.status}`).join("; ");
      const key = `${page.namespace}/${page.name}/${stage.name}`;
      const text = `${phase} ${message}`;
      if (before.get(key) === text) continue;
      before.set(key, text);
      const time = timestamp(io.clock.now());
      const { namespace, name } = page;
      io.out(
        output === "json"
          ? `${JSON.stringify({ time, namespace, name, stage: stage.name, phase, message })}\n`
          : `${printable(`${time} ${stage.name} ${text}`).trimEnd()}\n`,
      );
    }
  };
}

/** Draws over what was drawn before; gives the lines it took. */
function draw(
  cache: ResourceCache<KubeObject>,
  { flags, drawn }: { readonly flags: FollowFlags; readonly drawn: number },
  io: CommandIo,
): number {
  const options = { now: io.clock.now(), objects: flags.objects, columns: io.columns ?? 80 };
  const sorted = cache.list().toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  const text = sorted.map((each) => renderTree(pageOf(each, io), options)).join("\n") || "No StageSets found.\n";
  io.out(`${drawn === 0 ? "" : `\u001b[${drawn}A\u001b[J`}${text}`);
  return text.split("\n").length - 1;
}

function keyOf({ metadata }: KubeObject): string {
  return `${metadata.namespace ?? ""}/${metadata.name}`;
}
