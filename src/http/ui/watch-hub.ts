import { fleetPage, stageSetPage, stageSetRow } from "../../domain/why/view.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../lib/telemetry.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import type { StreamSink } from "../message.ts";
import type { Caller } from "./callers.ts";
import type { ChangedObject, UiView } from "./ui-view.ts";

/** What one stream is about: every StageSet the caller may list, or one object. */
export type WatchScope =
  | { readonly kind: "overview" }
  | { readonly kind: "stageset"; readonly namespace: string; readonly name: string }
  | { readonly kind: "fleetrollout"; readonly name: string };

/** Streams of one listener. */
export interface WatchHub extends Disposable {
  /** A place for one stream of the caller; undefined: all are taken by callers who hold no more than this one. */
  reserve(caller: Caller): ((sink: StreamSink, scope: WatchScope) => void) | undefined;
  readonly open: number;
}

export const mostStreams = 128;
export const mostPerCaller = 16;
/** Changes are gathered for so long, and a stream that has nothing to say says so this often. */
const gatherMs = 250;
const beatMs = 15_000;
/** A client that takes nothing for so long is gone. */
const stuckMs = 30_000;
/** What time alone changes, such as a controller that falls silent, is looked for this often. */
const recheckMs = 10_000;
/** How long a row's text is taken as it is. */
const freshMs = 1_000;
/** Events written in one turn. */
const perTurn = 50;

interface Stream {
  readonly caller: Caller;
  end(): void;
  changed(of: ChangedObject): void;
  recheck(what: "everything" | readonly ChangedObject[]): void;
}

/** Tells callers what changes, no more than they may see, as fast as each of them takes it. */
export function createWatchHub(options: {
  readonly view: UiView;
  readonly clock: Clock;
  readonly logger: Logger;
}): WatchHub {
  const { view, clock } = options;
  const streams = new Set<Stream>();
  const rows = createRows(view);
  let timer: Disposable | undefined;
  let rechecks = 0;
  const recheck = (): void => {
    rechecks++;
    // Rights may have changed meanwhile; texts of rows that time has changed are found once for all streams.
    const isThorough = rechecks % 6 === 0;
    const changed = rows.changedByTime();
    for (const stream of streams) stream.recheck(isThorough ? "everything" : changed);
    timer = streams.size === 0 ? undefined : clock.timer(recheckMs, recheck);
  };
  const subscription = view.subscribe((changed) => {
    for (const stream of streams) stream.changed(changed);
  });
  return {
    get open() {
      return streams.size;
    },
    reserve(caller) {
      const makesRoom = roomFor(caller, [...streams]);
      if (makesRoom === "full") return undefined;
      makesRoom?.end();
      return (sink, scope) => {
        if (sink.signal.aborted) return;
        const stream = runStream({ ...options, rows, caller, scope, sink, closed: () => void streams.delete(stream) });
        streams.add(stream);
        timer ??= clock.timer(recheckMs, recheck);
        stream.recheck("everything");
      };
    },
    [Symbol.dispose]() {
      subscription[Symbol.dispose]();
      timer?.[Symbol.dispose]();
      for (const stream of [...streams]) stream.end();
    },
  };
}

/** Which stream gives way to one more of the caller: one of whoever holds the most, if that is more than this one does. */
function roomFor(caller: Caller, streams: readonly Stream[]): Stream | "full" | undefined {
  const byCaller = Map.groupBy(streams, (stream) => stream.caller.name);
  const own = byCaller.get(caller.name) ?? [];
  if (caller.name !== "" && own.length >= mostPerCaller) return "full";
  if (streams.length < mostStreams) return undefined;
  const greediest = [...byCaller.values()].reduce((most, each) => (each.length > most.length ? each : most), own);
  return greediest.length > own.length + 1 ? greediest[0] : "full";
}

/** Rows as text, shared by all streams: one object until it reads otherwise. */
interface Rows {
  text(stageSet: KubeObject): string;
  /** What reads otherwise though no object changed. */
  changedByTime(): readonly ChangedObject[];
}

function createRows(view: UiView): Rows {
  const known = new WeakMap<KubeObject, { readonly text: string; readonly at: number }>();
  const text = (stageSet: KubeObject): string => {
    const input = view.input(stageSet);
    const before = known.get(stageSet);
    if (before !== undefined && input.now >= before.at && input.now - before.at < freshMs) return before.text;
    const now = JSON.stringify(stageSetRow(input));
    // The same text twice would be held twice, by every stream.
    const kept = now === before?.text ? before.text : now;
    known.set(stageSet, { text: kept, at: input.now });
    return kept;
  };
  return {
    text,
    changedByTime: () =>
      view.stageSets().flatMap((stageSet) => {
        const before = known.get(stageSet)?.text;
        const { namespace = "", name } = stageSet.metadata;
        return before === undefined || text(stageSet) === before ? [] : [{ kind: "StageSet", namespace, name }];
      }),
  };
}

interface StreamOptions {
  readonly view: UiView;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly rows: Rows;
  readonly caller: Caller;
  readonly scope: WatchScope;
  readonly sink: StreamSink;
  readonly closed: () => void;
}

function runStream(options: StreamOptions): Stream {
  const { view, clock, scope, sink, caller } = options;
  // Names only: what is told is read when it is written. Bounded by what there is.
  const dirty = new Set<string>();
  const told = new Map<string, string>();
  let gathering: Disposable | undefined;
  let writing = false;
  let greeted = false;
  let isBeatDue = false;
  let beat = clock.timer(beatMs, onBeat);
  const end = (): void => {
    gathering?.[Symbol.dispose]();
    beat[Symbol.dispose]();
    options.closed();
    sink.end();
  };
  sink.signal.addEventListener("abort", end, { once: true });
  const drained = (): Promise<boolean> =>
    new Promise((resolve) => {
      const settle = (isTaken: boolean): void => {
        stuck[Symbol.dispose]();
        resolve(isTaken);
      };
      const stuck = clock.timer(stuckMs, () => settle(false));
      sink.signal.addEventListener("abort", () => settle(false), { once: true });
      sink.onDrain(() => settle(true));
    });
  /** @throws {Gone} when the client is, or takes nothing */
  const write = async (text: string): Promise<void> => {
    if (sink.signal.aborted) throw new Gone();
    if (!sink.write(text) && !(await drained())) throw new Gone();
  };
  const flush = async (): Promise<void> => {
    if (!(await caller.isValid())) {
      await write(event("unauthenticated", "{}"));
      throw new Gone();
    }
    const isFirst = !greeted;
    if (isFirst) await write(event("hello", JSON.stringify({ scope: scope.kind })));
    greeted = true;
    while (dirty.size > 0) {
      const keys = [...dirty].slice(0, perTurn);
      let text = "";
      for (const key of keys) {
        dirty.delete(key);
        const news = await newsOf(options, key);
        const before = told.get(key);
        if (news === undefined) {
          const isTold = scope.kind === "overview" ? before === undefined : before === "";
          if (!isTold) text += event("gone", JSON.stringify(nameOf(key)));
          if (scope.kind === "overview") told.delete(key);
          else told.set(key, "");
        } else if (before !== news.text) {
          told.set(key, news.text);
          text += event(news.event, news.text);
        }
      }
      if (text !== "") await write(text);
      // Others have their turn.
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (isFirst) await write(event("synced", "{}"));
    else if (isBeatDue) await write(": still here\n\n");
    isBeatDue = false;
  };
  const start = (): void => {
    gathering = undefined;
    if (writing || sink.signal.aborted) return;
    writing = true;
    flush()
      .catch((error: unknown) => {
        if (!(error instanceof Gone)) options.logger.debug("cannot go on with a stream", { error: String(error) });
        end();
      })
      .finally(() => {
        writing = false;
        if (dirty.size > 0) soon();
      });
  };
  const soon = (): void => {
    if (!sink.signal.aborted) gathering ??= clock.timer(greeted ? gatherMs : 0, start);
  };
  function onBeat(): void {
    isBeatDue = true;
    beat = clock.timer(beatMs, onBeat);
    soon();
  }
  return {
    caller,
    end,
    changed(of) {
      if (!concerns(scope, of)) return;
      dirty.add(keyOf(of));
      soon();
    },
    recheck(what) {
      const isOverview = scope.kind === "overview";
      const all = what === "everything" || !isOverview ? everything(view, scope) : what;
      for (const each of all) dirty.add(keyOf(each));
      if (what === "everything") for (const key of told.keys()) dirty.add(key);
      soon();
    },
  };
}

/** The client is gone, or takes nothing any more. */
class Gone extends Error {
  override name = "Gone";
}

/** What is to be told of an object; undefined: it is gone, or not for the caller. */
async function newsOf(
  { view, rows, caller, scope }: StreamOptions,
  key: string,
): Promise<{ readonly event: string; readonly text: string } | undefined> {
  const { kind, namespace, name } = nameOf(key);
  if (kind === "FleetRollout") {
    const fleet = view.fleet(name);
    const isSeen = await caller.may({ verb: "get", resource: "fleetrollouts", namespace: "", name });
    if (fleet === undefined || !isSeen) return undefined;
    const text = JSON.stringify(fleetPage(fleet));
    return { event: "fleetrollout", text };
  }
  const isSeen = await (scope.kind === "overview"
    ? mayList(caller, namespace)
    : caller.may({ verb: "get", resource: "stagesets", namespace, name }));
  // Read after the wait.
  const stageSet = view.stageSet(namespace, name);
  if (stageSet === undefined || !isSeen) return undefined;
  const text = scope.kind === "overview" ? rows.text(stageSet) : JSON.stringify(stageSetPage(view.input(stageSet)));
  return { event: scope.kind === "overview" ? "stageset" : "page", text };
}

/** As for `kubectl get`: everywhere, else in the namespace. */
export async function mayList(caller: Caller, namespace: string): Promise<boolean> {
  const everywhere = await caller.may({ verb: "list", resource: "stagesets", namespace: "", name: "" });
  return everywhere || (await caller.may({ verb: "list", resource: "stagesets", namespace, name: "" }));
}

function concerns(scope: WatchScope, { kind, namespace, name }: ChangedObject): boolean {
  if (scope.kind === "overview") return kind === "StageSet";
  if (scope.kind === "fleetrollout") return kind === "FleetRollout" && scope.name === name;
  return kind === "StageSet" && scope.namespace === namespace && scope.name === name;
}

function everything(view: UiView, scope: WatchScope): readonly ChangedObject[] {
  if (scope.kind === "stageset") return [{ ...scope, kind: "StageSet" }];
  if (scope.kind === "fleetrollout") return [{ kind: "FleetRollout", namespace: "", name: scope.name }];
  return view.stageSets().map(({ metadata: { namespace = "", name } }) => ({ kind: "StageSet", namespace, name }));
}

function keyOf({ kind, namespace, name }: ChangedObject): string {
  return `${kind}/${namespace}/${name}`;
}

function nameOf(key: string): ChangedObject {
  const [kind, namespace = "", name = ""] = key.split("/");
  return { kind: kind === "FleetRollout" ? "FleetRollout" : "StageSet", namespace, name };
}

/** One server-sent event; JSON has no line breaks (WHATWG HTML §9.2). */
function event(name: string, json: string): string {
  return `event: ${name}\ndata: ${json}\n\n`;
}
