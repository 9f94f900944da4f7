import type { Readiness } from "../domain/readiness/readiness.ts";
import { readinessOf } from "../domain/readiness/readiness.ts";
import type { ObjectId } from "../domain/object-id.ts";
import { renderObjectId } from "../domain/object-id.ts";
import { nameLabel, namespaceLabel } from "../api/keys.ts";
import type { Clock } from "../lib/clock.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { splitApiVersion } from "../lib/kube-object.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { Access } from "../identity/access.ts";
import type { ApiResource } from "../kube/request.ts";
import { watchObjects } from "../kube/object-watch.ts";
import type { StageSetKey } from "./journal.ts";

/** The last thing known of one object a stage waits for. `object` is kept only where an expression reads it. */
export interface Observation {
  readonly readiness: Readiness;
  readonly resourceVersion: string;
  readonly object: KubeObject | undefined;
  /** Monotonic ms of the last read or event, and of the last one that showed something new. */
  readonly seenAt: number;
  readonly changedAt: number;
}

/** One object to follow. */
export interface Followed {
  readonly id: ObjectId;
  readonly resource: ApiResource;
  /** Our labels are on it, so one watch serves all such objects of its kind and namespace. */
  readonly labelled: boolean;
  /** An expression reads it: any change of it may be the one waited for. */
  readonly anyChange: boolean;
}

export interface StageWatch {
  readonly key: StageSetKey;
  readonly stage: string;
  readonly access: Access;
  readonly followed: readonly Followed[];
  /** Something waited for cannot be watched, a kind that is not served yet for one: look again now and then. */
  readonly poll: boolean;
  /** Monotonic ms at which the pass looked: only what came later may wake it. */
  readonly lookedAt: number;
  /** Use one watch for every StageSet of the namespace that acts as this identity. */
  readonly shared: boolean;
}

/**
 * What waits for objects to become ready: reference-counted watches per (identity, kind, namespace), opened while a
 * stage waits and closed soon after (spec 20 §9.6, §16.3). Where a watch is refused, the key is woken to poll.
 */
export interface Observer extends AsyncDisposable {
  /** A state read or written under `access`; undefined: the object is gone. */
  note(key: StageSetKey, access: Access, id: ObjectId, object: KubeObject | undefined, keep: boolean): void;
  get(key: StageSetKey, access: Access, id: ObjectId): Observation | undefined;
  /** A watch of this object is open, so what was noted is current. */
  isLive(key: StageSetKey, access: Access, id: ObjectId): boolean;
  /** Follows waiting stages of one StageSet; replaces what it followed before. */
  follow(key: StageSetKey, stages: readonly StageWatch[]): void;
  /** The StageSet waits for nothing any more. */
  release(key: StageSetKey): void;
}

/** Polling where a watch is refused: the first look, growing by half to the last (spec 20 §9.6). */
const firstPollMs = 1_000;
const slowestPollMs = 15_000;
/** A watch nobody needs is kept this long: the next stage often needs the same one. */
const lingerMs = 5_000;
/** A refused watch is tried again after this time. */
const refusedMs = 60_000;

interface KeyState {
  readonly key: StageSetKey;
  readonly observations: Map<string, Observation>;
  readonly stages: Map<string, StageWatch & { polls: number; timer: Disposable | undefined }>;
}

interface SharedWatch {
  readonly abort: AbortController;
  readonly done: Promise<void>;
  readonly users: Set<string>;
  /** `gap`: events may have been missed since. */
  state: "open" | "gap" | "refused";
  linger: Disposable | undefined;
}

export function createObserver(options: {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly wake: (key: StageSetKey) => void;
}): Observer {
  const { clock, wake } = options;
  const keys = new Map<string, KeyState>();
  const watches = new Map<string, SharedWatch>();
  const refused = new Map<string, number>();

  const stateOf = (key: StageSetKey): KeyState => {
    const name = keyName(key);
    const known = keys.get(name);
    if (known !== undefined) return known;
    const fresh: KeyState = { key, observations: new Map(), stages: new Map() };
    keys.set(name, fresh);
    return fresh;
  };

  const store = (state: KeyState, slot: string, object: KubeObject | undefined, keep: boolean): boolean => {
    const before = state.observations.get(slot);
    const resourceVersion = object?.metadata.resourceVersion ?? before?.resourceVersion ?? "0";
    if (object !== undefined && before !== undefined && isOlder(resourceVersion, before.resourceVersion)) return false;
    const readiness: Readiness =
      object === undefined ? { status: "NotFound", message: "does not exist" } : readinessOf(object);
    const seenAt = clock.monotonic();
    const news =
      before === undefined ||
      before.resourceVersion !== resourceVersion ||
      before.readiness.status !== readiness.status ||
      before.readiness.message !== readiness.message;
    state.observations.set(slot, {
      readiness,
      resourceVersion,
      object: keep || before?.object !== undefined ? object : undefined,
      seenAt,
      changedAt: news ? seenAt : before.changedAt,
    });
    return news;
  };

  /** Wakes the key when the stage's verdict may have changed for good: all Current, or one Failed. */
  const decide = (state: KeyState, slot: string): void => {
    for (const watch of state.stages.values()) {
      const mine = watch.followed.find((followed) => slotOf(watch.access, followed.id) === slot);
      if (mine === undefined) continue;
      const all = watch.followed.map((followed) => state.observations.get(slotOf(watch.access, followed.id)));
      const decided =
        mine.anyChange ||
        all.some((seen) => seen?.readiness.status === "Failed") ||
        all.every((seen) => seen?.readiness.status === "Current");
      if (decided) wake(state.key);
    }
  };

  const onEvent = (access: Access, type: string, object: KubeObject, named: StageSetKey | undefined): void => {
    const labels = object.metadata.labels ?? {};
    const key = named ?? { namespace: labels[namespaceLabel] ?? "", name: labels[nameLabel] ?? "" };
    const state = keys.get(keyName(key));
    if (state === undefined) return;
    const { group } = splitApiVersion(object.apiVersion);
    const id: ObjectId = {
      group,
      kind: object.kind,
      namespace: object.metadata.namespace ?? "",
      name: object.metadata.name,
    };
    const slot = slotOf(access, id);
    if (!state.observations.has(slot)) return;
    if (type === "DELETED") {
      const before = state.observations.get(slot);
      if (before !== undefined && isOlder(object.metadata.resourceVersion ?? "0", before.resourceVersion)) return;
      store(state, slot, undefined, false);
    } else if (!store(state, slot, object, false)) {
      if (![...state.stages.values()].some((watch) => watch.followed.some((each) => each.anyChange))) return;
    }
    decide(state, slot);
  };

  const open = (name: string, watch: StageWatch, followed: Followed): SharedWatch => {
    const abort = new AbortController();
    const selector = selectorOf(watch, followed);
    const shared: SharedWatch = {
      abort,
      users: new Set(),
      state: "open",
      linger: undefined,
      done: watchObjects({
        client: watch.access.client,
        resource: followed.resource,
        namespace: followed.resource.namespaced ? followed.id.namespace : undefined,
        ...selector,
        clock,
        signal: abort.signal,
        onEvent: (event) => {
          shared.state = "open";
          onEvent(watch.access, event.type, event.object, followed.labelled ? undefined : watch.key);
        },
        // What was missed is read by the pass this wakes.
        onGap: () => {
          shared.state = "gap";
          for (const user of shared.users) {
            const state = keys.get(user);
            if (state !== undefined) wake(state.key);
          }
        },
        onRefused: () => {
          shared.state = "refused";
          refused.set(name, clock.monotonic() + refusedMs);
          for (const user of shared.users) {
            const state = keys.get(user);
            if (state !== undefined) schedulePolls(state);
          }
        },
      }).catch((error: unknown) => {
        if (!abort.signal.aborted) options.logger.debug("watch ended", { error: String(error) });
      }),
    };
    watches.set(name, shared);
    return shared;
  };

  const use = (user: string, watch: StageWatch, followed: Followed): void => {
    const name = watchName(watch, followed);
    const until = refused.get(name);
    if (until !== undefined && until > clock.monotonic()) return;
    const shared = watches.get(name) ?? open(name, watch, followed);
    shared.users.add(user);
    shared.linger?.[Symbol.dispose]();
    shared.linger = undefined;
  };

  const schedulePolls = (state: KeyState): void => {
    for (const stage of state.stages.values()) {
      const watched = !stage.poll && stage.followed.every((each) => isOpen(stage, each));
      if (stage.timer !== undefined || watched) continue;
      const delayMs = Math.min(slowestPollMs, firstPollMs * 1.5 ** stage.polls);
      stage.timer = clock.timer(delayMs, () => {
        stage.timer = undefined;
        stage.polls++;
        wake(state.key);
      });
    }
  };

  const isOpen = (watch: StageWatch, followed: Followed): boolean => {
    const state = watches.get(watchName(watch, followed))?.state;
    return state === "open" || state === "gap";
  };

  /** Watches the key does not use any more are closed after a while. */
  const leave = (user: string, stillUsed: ReadonlySet<string>): void => {
    for (const [name, shared] of watches) {
      if (stillUsed.has(name) || !shared.users.delete(user) || shared.users.size > 0) continue;
      shared.linger = clock.timer(lingerMs, () => {
        if (shared.users.size > 0) return;
        shared.abort.abort(new Error("nobody waits"));
        watches.delete(name);
      });
    }
  };

  return {
    note(key, access, id, object, keep) {
      store(stateOf(key), slotOf(access, id), object, keep);
    },
    get: (key, access, id) => keys.get(keyName(key))?.observations.get(slotOf(access, id)),
    isLive(key, access, id) {
      const state = keys.get(keyName(key));
      for (const watch of state?.stages.values() ?? []) {
        const followed = watch.followed.find((each) => slotOf(watch.access, each.id) === slotOf(access, id));
        if (followed !== undefined && watches.get(watchName(watch, followed))?.state === "open") return true;
      }
      return false;
    },
    follow(key, stages) {
      const state = stateOf(key);
      const before = new Map(state.stages);
      state.stages.clear();
      const used = new Set<string>();
      for (const watch of stages) {
        const earlier = before.get(watch.stage);
        earlier?.timer?.[Symbol.dispose]();
        before.delete(watch.stage);
        state.stages.set(watch.stage, { ...watch, polls: earlier?.polls ?? 0, timer: undefined });
        for (const followed of watch.followed) {
          use(keyName(key), watch, followed);
          used.add(watchName(watch, followed));
        }
      }
      for (const stage of before.values()) stage.timer?.[Symbol.dispose]();
      leave(keyName(key), used);
      schedulePolls(state);
      // An event may have come in between the pass' look and now.
      for (const watch of stages)
        for (const followed of watch.followed) {
          const slot = slotOf(watch.access, followed.id);
          if ((state.observations.get(slot)?.changedAt ?? 0) > watch.lookedAt) decide(state, slot);
        }
    },
    release(key) {
      const name = keyName(key);
      const state = keys.get(name);
      if (state === undefined) return;
      for (const stage of state.stages.values()) stage.timer?.[Symbol.dispose]();
      keys.delete(name);
      leave(name, new Set());
    },
    async [Symbol.asyncDispose]() {
      for (const state of keys.values()) for (const stage of state.stages.values()) stage.timer?.[Symbol.dispose]();
      keys.clear();
      const open = [...watches.values()];
      watches.clear();
      for (const shared of open) {
        shared.linger?.[Symbol.dispose]();
        shared.abort.abort(new Error("stopping"));
      }
      await Promise.all(open.map((shared) => shared.done));
    },
  };
}

function keyName(key: StageSetKey): string {
  return `${key.namespace}/${key.name}`;
}

/** Observations of one identity are never served to another. */
function slotOf(access: Access, id: ObjectId): string {
  return `${access.key} ${renderObjectId(id)}`;
}

function watchName(watch: StageWatch, followed: Followed): string {
  const { group, version, plural } = followed.resource;
  const selector = selectorOf(watch, followed);
  return [
    watch.access.key,
    `${group}/${version}/${plural}`,
    followed.id.namespace,
    selector.labelSelector ?? "",
    selector.fieldSelector ?? "",
    followed.labelled ? "" : keyName(watch.key),
  ].join(" ");
}

function selectorOf(
  watch: StageWatch,
  followed: Followed,
): { readonly labelSelector?: string; readonly fieldSelector?: string } {
  if (!followed.labelled) return { fieldSelector: `metadata.name=${followed.id.name}` };
  const namespace = `${namespaceLabel}=${watch.key.namespace}`;
  return { labelSelector: watch.shared ? namespace : `${namespace},${nameLabel}=${watch.key.name}` };
}

function isOlder(a: string, b: string): boolean {
  return a.length === b.length ? a < b : a.length < b.length;
}
