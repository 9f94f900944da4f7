import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../lib/telemetry.ts";
import type { StreamSink } from "../message.ts";
import type { Caller } from "./callers.ts";
import type { Rows } from "./rows.ts";
import type { UiView } from "./ui-view.ts";
import { keyOf, runStream, type Stream, type WatchScope } from "./watch-stream.ts";

/** Streams of one listener. */
export interface WatchHub extends Disposable {
  /**
   * A place for one stream of the caller, held until `signal` aborts, or the stream that is opened ends; undefined: all are
   * taken by callers who hold no more than this one.
   */
  reserve(caller: Caller, signal: AbortSignal): ((sink: StreamSink, scope: WatchScope) => void) | undefined;
  /** Places that are taken. */
  readonly taken: number;
}

export const mostStreams = 128;
export const mostPerCaller = 16;
/** What time alone changes, such as a controller that falls silent, is looked for this often. */
const recheckMs = 10_000;

interface Place {
  readonly caller: Caller;
  /** Undefined until it is opened. */
  stream: Stream | undefined;
}

/** Tells callers what changes, no more than they may see, as fast as each of them takes it. */
export function createWatchHub(options: {
  readonly view: UiView;
  readonly rows: Rows;
  readonly clock: Clock;
  readonly logger: Logger;
}): WatchHub {
  const { view, rows, clock } = options;
  const places = new Set<Place>();
  // Streams keep many keys for long: each is one text for all of them.
  const keys = new Map<string, string>();
  const shared = (of: Parameters<typeof keyOf>[0]): string => {
    const key = keyOf(of);
    const known = keys.get(key);
    if (known === undefined) keys.set(key, key);
    return known ?? key;
  };
  const overviewKeys = (): readonly string[] =>
    view.stageSets().map(({ metadata: { namespace = "", name } }) => shared({ kind: "StageSet", namespace, name }));
  const keysOf = (scope: WatchScope, overview: readonly string[]): readonly string[] => {
    if (scope.kind === "overview") return overview;
    return scope.kind === "stageset"
      ? [keyOf({ ...scope, kind: "StageSet" })]
      : [keyOf({ kind: "FleetRollout", namespace: "", name: scope.name })];
  };
  let timer: Disposable | undefined;
  let rechecks = 0;
  let isDisposed = false;
  const recheck = async (): Promise<void> => {
    rechecks++;
    // Rights may have changed meanwhile; texts of rows that time has changed are found once for all streams.
    const isThorough = rechecks % 6 === 0;
    const changed = await rows.changedByTime();
    const overview = isThorough ? overviewKeys() : changed.map(shared);
    for (const { stream } of places) {
      if (isThorough) stream?.recheckAll(keysOf(stream.scope, overview));
      else stream?.recheck(keysOf(stream.scope, overview));
    }
  };
  const recheckLater = (): void => {
    timer ??= clock.timer(recheckMs, () => {
      recheck()
        .catch((error: unknown) => options.logger.error("cannot look for changes of rows", { error: String(error) }))
        .finally(() => {
          timer = undefined;
          if (places.size > 0 && !isDisposed) recheckLater();
        });
    });
  };
  const subscription = view.subscribe((changed) => {
    const key = shared(changed);
    for (const { stream } of places) stream?.changed(changed, key);
    if (changed.kind === "StageSet" && view.stageSet(changed.namespace, changed.name) === undefined) keys.delete(key);
  });
  return {
    get taken() {
      return places.size;
    },
    reserve(caller, signal) {
      const givesWay = roomFor(caller, [...places]);
      if (givesWay === "full" || signal.aborted) return undefined;
      if (givesWay !== undefined) {
        places.delete(givesWay);
        givesWay.stream?.end();
      }
      const place: Place = { caller, stream: undefined };
      places.add(place);
      const leave = (): void => void places.delete(place);
      signal.addEventListener("abort", leave, { once: true });
      return (sink, scope) => {
        // The stream's own end counts from now on.
        signal.removeEventListener("abort", leave);
        if (sink.signal.aborted || !places.has(place)) {
          leave();
          sink.end();
          return;
        }
        place.stream = runStream({ ...options, caller, scope, sink, closed: leave });
        recheckLater();
        place.stream.recheck(keysOf(scope, scope.kind === "overview" ? overviewKeys() : []));
      };
    },
    [Symbol.dispose]() {
      isDisposed = true;
      subscription[Symbol.dispose]();
      timer?.[Symbol.dispose]();
      for (const { stream } of [...places]) stream?.end();
    },
  };
}

/** Which place is given to one more stream of the caller: one of whoever holds the most, if that is more than this one does. */
function roomFor(caller: Caller, places: readonly Place[]): Place | "full" | undefined {
  const byCaller = Map.groupBy(places, (place) => place.caller.name);
  const own = byCaller.get(caller.name) ?? [];
  if (caller.name !== "" && own.length >= mostPerCaller) return "full";
  if (places.length < mostStreams) return undefined;
  const greediest = [...byCaller.values()].reduce((most, each) => (each.length > most.length ? each : most), own);
  return greediest.length > own.length + 1 ? greediest[0] : "full";
}
