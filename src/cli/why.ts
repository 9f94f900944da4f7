import { leaderLeaseName } from "../api/keys.ts";
import { readyOf, type AwaitedObject, type Cause, type Why } from "../domain/why/cause.ts";
import { leaseRenewedAt } from "../domain/why/lease.ts";
import { ago, stagesOf } from "../domain/why/stage-cause.ts";
import { explainWhy, type Lookup, type WhyInput } from "../domain/why/why.ts";
import { stageSource } from "../domain/stage-readiness.ts";
import type { SourceTarget } from "../domain/pins.ts";
import { asKubeObject } from "../engine/kube-answer.ts";
import { coreEvents, stageSets } from "../engine/resources.ts";
import { KubeError } from "../kube/error.ts";
import { leases } from "../kube/lease.ts";
import { getRequest, listRequest } from "../kube/request.ts";
import { asArray, asNumber, asText, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { CommandFailed, exitCodes, type CommandIo } from "./command-io.ts";
import { readSource } from "./gate.ts";
import { openHub, type Hub, type HubFlags } from "./hub.ts";
import { readStageSet } from "./read-stage-sets.ts";
import { printable } from "./text.ts";

export interface WhyFlags extends HubFlags {
  /** Only what concerns this stage, or the StageSet as a whole. */
  readonly stage?: string;
  readonly output: "text" | "json";
}

/** Objects that are shown, and Warning Events of each (spec 70 §9.2). */
const mostObjects = 5;
const mostEvents = 3;

/**
 * `stagesetctl why NAME`: the first thing that keeps a StageSet from moving, and what is queued behind; 0 when nothing
 * does, else 1 (spec 70 §9.2). Reads what the caller may, and names on stderr what was denied.
 *
 * @throws {CommandFailed} the StageSet cannot be read, or has no such stage
 */
export async function runWhy(name: string, flags: WhyFlags, io: CommandIo): Promise<number> {
  await using hub = await openHub(flags, io);
  const { stageSet, now } = await readStageSet(hub, { namespace: hub.namespace, name }, io);
  if (flags.stage !== undefined && !stagesOf(stageSet).some((stage) => stage.name === flags.stage))
    throw new CommandFailed(`StageSet "${hub.namespace}/${name}" has no stage "${flags.stage}"`);
  const denied = new Set<string>();
  const input = await gather(hub, { stageSet, now, denied }, io);
  const why = ofStage(explainWhy(input), flags.stage);
  if (flags.output === "json") io.out(`${JSON.stringify(why, undefined, 2)}\n`);
  else {
    const events = await readEvents(hub, { stageSet, objects: why.objects.slice(0, mostObjects), denied }, io);
    io.out(renderWhy(why, { now, events, message: readyOf(at(stageSet, "status"))?.message ?? "" }));
  }
  for (const what of denied) io.error(`note: ${printable(what)} could not be read\n`);
  return why.state === "ok" ? exitCodes.done : exitCodes.finding;
}

/** Causes of other stages do not concern this one. */
function ofStage(why: Why, stage: string | undefined): Why {
  if (stage === undefined) return why;
  const all = [...(why.cause === undefined ? [] : [why.cause]), ...why.others];
  const [cause, ...others] = all.filter((each) => each.stage === undefined || each.stage === stage);
  const { cause: _cause, ...rest } = why;
  const objects = why.objects.filter((each) => each.stage === stage);
  if (cause === undefined) return { ...rest, state: "ok", others: [], objects };
  return { ...rest, cause, others, objects };
}

interface Subject {
  readonly stageSet: KubeObject;
  readonly now: number;
  readonly denied: Set<string>;
}

/** Reads, as the caller, what the judgement looks at. */
async function gather(hub: Hub, { stageSet, now, denied }: Subject, io: CommandIo): Promise<WhyInput> {
  const own = stageSet.metadata.namespace ?? "";
  const dependencies = new Map<string, Lookup>();
  const sources = new Map<string, Lookup>();
  const targets = new Map<string, SourceTarget>();
  for (const { name } of stagesOf(stageSet)) {
    const target = stageSource(stageSet, name);
    if (target !== undefined) targets.set(JSON.stringify(target), target);
  }
  const look = async (what: string, read: () => Promise<KubeObject | undefined>): Promise<Lookup> => {
    try {
      return (await read()) ?? "absent";
    } catch (error) {
      if (!(error instanceof KubeError)) throw error;
      if (error.reason === "NotFound") return "absent";
      denied.add(what);
      return "unknown";
    }
  };
  const { signal } = io;
  await Promise.all([
    ...asArray(at(stageSet, "spec", "dependsOn")).map(async (dependency) => {
      const name = asText(at(dependency, "name")) ?? "";
      const namespace = asText(at(dependency, "namespace")) ?? own;
      const read = async (): Promise<KubeObject> =>
        asKubeObject(await hub.client.send(getRequest(stageSets, { namespace, name }), { signal }));
      dependencies.set(`${namespace}/${name}`, await look(`StageSet "${namespace}/${name}"`, read));
    }),
    ...[...targets].map(async ([key, target]) => {
      const what = `${target.kind} "${target.namespace}/${target.name}"`;
      sources.set(key, await look(what, () => readSource(hub, target, signal)));
    }),
  ]);
  return {
    stageSet,
    now,
    changedAt: specChangedAt(stageSet),
    leaseRenewedAt: await readLease(hub, denied, io),
    stageSetOf: (namespace, name) => dependencies.get(`${namespace}/${name}`) ?? "unknown",
    sourceOf: (target) => sources.get(JSON.stringify(target)) ?? "unknown",
  };
}

/** When somebody last wrote anything but the status, as the API server has noted it. */
function specChangedAt({ metadata }: KubeObject): number | undefined {
  const times = (metadata.managedFields ?? [])
    .filter((entry) => at(entry, "subresource") === undefined)
    .flatMap(({ time }) => time ?? []);
  const last = [...times, ...(metadata.creationTimestamp === undefined ? [] : [metadata.creationTimestamp])]
    .toSorted()
    .at(-1);
  return last === undefined ? undefined : Date.parse(last);
}

/** When a controller last renewed its lease, in whatever namespace it runs; undefined: nobody is seen to hold one. */
async function readLease(hub: Hub, denied: Set<string>, { signal }: CommandIo): Promise<number | undefined> {
  try {
    const list = await hub.client.send(listRequest(leases, { fieldSelector: `metadata.name=${leaderLeaseName}` }), {
      signal,
    });
    return leaseRenewedAt(asArray(at(list, "items")));
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    denied.add(`the controller's Lease "${leaderLeaseName}" (list leases)`);
    return undefined;
  }
}

type EventLines = ReadonlyMap<AwaitedObject, readonly string[]>;

/** The last Warning Events of objects on this cluster. */
async function readEvents(
  hub: Hub,
  { stageSet, objects, denied }: Omit<Subject, "now"> & { readonly objects: readonly AwaitedObject[] },
  { signal }: CommandIo,
): Promise<EventLines> {
  if (at(stageSet, "spec", "kubeConfig") !== undefined) return new Map();
  const read = async (object: AwaitedObject): Promise<readonly string[]> => {
    const { kind, namespace, name } = object;
    const fieldSelector = `involvedObject.kind=${kind},involvedObject.name=${name},type=Warning`;
    try {
      const list = await hub.client.send(listRequest(coreEvents, { namespace, fieldSelector, limit: 50 }), { signal });
      return asArray(at(list, "items"))
        .toSorted((a, b) => timeOf(a).localeCompare(timeOf(b)))
        .slice(-mostEvents)
        .map((event) => {
          const count = asNumber(at(event, "count")) ?? 1;
          return `${asText(at(event, "reason")) ?? ""}${count > 1 ? ` (${count} times)` : ""}: ${asText(at(event, "message")) ?? ""}`;
        });
    } catch (error) {
      if (!(error instanceof KubeError)) throw error;
      denied.add(`Events of namespace "${namespace}"`);
      return [];
    }
  };
  return new Map(await Promise.all(objects.map(async (object) => [object, await read(object)] as const)));
}

function timeOf(event: unknown): string {
  return asText(at(event, "lastTimestamp")) ?? asText(at(event, "eventTime")) ?? "";
}

const stateText = { ok: "OK", waiting: "Waiting", failing: "Failing", stale: "Stale" } as const;

/** What a person reads: the headline, what ends it, what is not ready, what is queued behind. */
function renderWhy(
  { namespace, name, state, cause, others, objects }: Why,
  { now, events, message }: { readonly now: number; readonly events: EventLines; readonly message: string },
): string {
  const lines = [`${namespace}/${name}  ${stateText[state]}`];
  if (cause === undefined) return `${lines.join("\n")}\n  ${printable(message || "nothing waits, nothing fails")}\n`;
  lines.push(`  ${headline(cause)}`, `  ${cause.message}`);
  if (cause.since !== undefined) lines.push(`  since:      ${cause.since} (${ago(cause.since, now)})`);
  if (cause.until !== undefined)
    lines.push(`  ${`${untilWord(cause)}:`.padEnd(11)} ${cause.until} (${left(cause.until, now)})`);
  if (cause.clearedBy !== undefined) lines.push(`  cleared by: ${cause.clearedBy}`);
  if (cause.command !== undefined) lines.push(`  command:    ${cause.command}`);
  if (objects.length > 0) lines.push("", "Not ready:");
  for (const object of objects.slice(0, mostObjects)) {
    const { stage, kind, namespace: where, name: what, status, message: said } = object;
    lines.push(
      `  ${stage}  ${kind}/${where === namespace ? "" : `${where}/`}${what}  ${status}${said === "" ? "" : `  ${said}`}`,
    );
    for (const event of events.get(object) ?? []) lines.push(`    Warning ${event}`);
  }
  if (objects.length > mostObjects) lines.push(`  and ${objects.length - mostObjects} more`);
  if (others.length > 0) lines.push("", "Queued behind:");
  for (const other of others)
    lines.push(
      `  ${headline(other)}  ${other.message}${other.until === undefined ? "" : ` (${untilWord(other)} ${other.until})`}`,
    );
  return `${lines.map(printable).join("\n")}\n`;
}

function headline({ kind, stage, object, reason }: Cause): string {
  const where = [stage === undefined ? "" : `stage ${stage}`, object ?? ""].filter((part) => part !== "").join(", ");
  return `${kind}${where === "" ? "" : ` (${where})`}: ${reason}`;
}

/** A wait for readiness does not end by itself: its time is up. */
function untilWord({ kind }: Cause): string {
  return kind === "verify" ? "times out" : "until";
}

function left(until: string, now: number): string {
  const ms = Date.parse(until) - now;
  return ms <= 0 ? "any moment" : `in ${ago(new Date(now).toISOString(), now + ms)}`;
}
