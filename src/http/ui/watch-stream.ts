import { fleetPage, stageSetPage } from "../../domain/why/view.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../lib/telemetry.ts";
import type { StreamSink } from "../message.ts";
import type { Caller } from "./callers.ts";
import type { Rows } from "./rows.ts";
import type { ChangedObject, UiView } from "./ui-view.ts";

/** Changes are gathered for so long, and a stream that has nothing to say says so this often. */
const gatherMs = 250;
const beatMs = 15_000;
/** A client that takes nothing for so long is gone. */
const stuckMs = 30_000;
/** Events written in one turn. */
const perTurn = 50;
/** With so many reviews that failed a stream pauses for so long. */
const mostLate = 5;
const lateMs = 2_000;

/** What one stream is about: every StageSet the caller may list, or one object. */
export type WatchScope =
  | { readonly kind: "overview" }
  | { readonly kind: "stageset"; readonly namespace: string; readonly name: string }
  | { readonly kind: "fleetrollout"; readonly name: string };

export interface Stream {
  readonly scope: WatchScope;
  end(): void;
  /** Each key is one text for all streams. */
  changed(of: ChangedObject, key: string): void;
  recheck(keys: readonly string[]): void;
  /** Rights may have changed: what was told is asked for again too. */
  recheckAll(keys: readonly string[]): void;
}

export interface StreamOptions {
  readonly view: UiView;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly rows: Rows;
  readonly caller: Caller;
  readonly scope: WatchScope;
  readonly sink: StreamSink;
  readonly closed: () => void;
}

/** Tells one client what there is and what changes, for as long as it takes it. */
export function runStream(options: StreamOptions): Stream {
  const { clock, scope, sink, caller } = options;
  // Names only: what is told is read when it is written. Bounded by what there is.
  const dirty = new Set<string>();
  const told = new Map<string, string>();
  let gathering: Disposable | undefined;
  let writing = false;
  let greeted = false;
  let synced = false;
  let isBeatDue = false;
  let isLate = false;
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
  /** The event of a key, empty when nothing is new; rejects when its review does. */
  const tell = async (key: string): Promise<string> => {
    const news = await newsOf(options, key);
    const before = told.get(key);
    if (news !== undefined) {
      told.set(key, news.text);
      return before === news.text ? "" : event(news.event, news.text);
    }
    const isTold = scope.kind === "overview" ? before === undefined : before === "";
    if (scope.kind === "overview") told.delete(key);
    else told.set(key, "");
    return isTold ? "" : event("gone", JSON.stringify(nameOf(key)));
  };
  const flush = async (): Promise<void> => {
    if (!(await caller.isValid())) {
      await write(event("unauthenticated", "{}"));
      throw new Gone();
    }
    if (!greeted) await write(event("hello", JSON.stringify({ scope: scope.kind })));
    greeted = true;
    // What cannot be told now is told later, and keeps nothing else back.
    const late: string[] = [];
    while (dirty.size > 0 && late.length < mostLate) {
      let text = "";
      for (const key of [...dirty].slice(0, perTurn)) {
        dirty.delete(key);
        try {
          text += await tell(key);
        } catch (error) {
          options.logger.debug("cannot review a caller of a stream", { error: String(error) });
          if (late.push(key) >= mostLate) break;
        }
      }
      if (text !== "") await write(text);
      // Others have their turn.
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (const key of late) dirty.add(key);
    isLate = late.length > 0;
    if (!synced && dirty.size === 0) {
      synced = true;
      await write(event("synced", "{}"));
    } else if (isBeatDue) await write(": still here\n\n");
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
    if (!sink.signal.aborted) gathering ??= clock.timer(isLate ? lateMs : greeted ? gatherMs : 0, start);
  };
  function onBeat(): void {
    isBeatDue = true;
    beat = clock.timer(beatMs, onBeat);
    soon();
  }
  const recheck = (keys: Iterable<string>): void => {
    for (const key of keys) dirty.add(key);
    soon();
  };
  return {
    scope,
    end,
    changed(of, key) {
      if (concerns(scope, of)) recheck([key]);
    },
    recheck,
    recheckAll(keys) {
      recheck(keys);
      recheck(told.keys());
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
async function mayList(caller: Caller, namespace: string): Promise<boolean> {
  const everywhere = await caller.may({ verb: "list", resource: "stagesets", namespace: "", name: "" });
  return everywhere || (await caller.may({ verb: "list", resource: "stagesets", namespace, name: "" }));
}

function concerns(scope: WatchScope, { kind, namespace, name }: ChangedObject): boolean {
  if (scope.kind === "overview") return kind === "StageSet";
  if (scope.kind === "fleetrollout") return kind === "FleetRollout" && scope.name === name;
  return kind === "StageSet" && scope.namespace === namespace && scope.name === name;
}

export function keyOf({ kind, namespace, name }: ChangedObject): string {
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
