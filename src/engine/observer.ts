import { nameLabel, namespaceLabel } from "../api/keys.ts";
import { printOf, samePrint, type Print } from "../apply/fingerprint.ts";
import { renderObjectId, type ObjectId } from "../domain/object-id.ts";
import { expired, isExpiringJob, readinessOf, type Readiness } from "../domain/readiness/readiness.ts";
import { explanationOf } from "../domain/readiness/workload-pods.ts";
import type { Access } from "../identity/access.ts";
import type { ApiResource } from "../kube/request.ts";
import type { Clock } from "../lib/clock.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { Logger } from "../lib/telemetry.ts";
import { createDriftAlarm, type DriftAlarm } from "./drift-alarm.ts";
import type { StageSetKey } from "./journal.ts";
import { isOutdated, type Guarded, type Observation, type Sight, type Slot } from "./slot.ts";
import { createSharedWatches, watchName, type SharedWatch, type WatchTarget } from "./shared-watches.ts";

/** One object to follow while a stage waits. */
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
 * What is known of the objects of StageSets, by reference-counted watches per (identity, kind, namespace): while a stage
 * waits they bring its readiness (spec 20 §9.6, §16.3), and afterwards they vouch for what was applied, so that a steady
 * pass need not read it, and wake the key when it drifts (§16.1, §16.2). Where a watch is refused, waits are polled and
 * drift is found on the interval.
 */
export interface Observer extends AsyncDisposable {
  /**
   * A state read or written under `access`; undefined: the object is gone. `since` is when the reading began, monotonic
   * ms; `keep` keeps the object itself.
   */
  note(
    key: StageSetKey,
    access: Access,
    o: {
      readonly id: ObjectId;
      readonly object: KubeObject | undefined;
      readonly keep: boolean;
      readonly since: number;
    },
  ): void;
  get(key: StageSetKey, access: Access, id: ObjectId): Observation | undefined;
  /** A watch has shown this object and misses nothing since, so what was noted is current. */
  isLive(key: StageSetKey, access: Access, id: ObjectId): boolean;
  /** A watch vouches that the object is as it was applied. */
  vouches(key: StageSetKey, access: Access, known: { readonly id: ObjectId; readonly print: Print }): boolean;
  /** A pass runs: nothing wakes the key for drift until it is followed again. */
  pause(key: StageSetKey): void;
  /** The pass left everything as it was: what was followed and guarded before still is. */
  resume(key: StageSetKey): void;
  /** Follows waiting stages of one StageSet and guards objects; replaces both. `guarded` undefined: as before, paused. */
  follow(
    key: StageSetKey,
    o: { readonly stages: readonly StageWatch[]; readonly guarded: readonly Guarded[] | undefined },
  ): void;
  /** Drift of this object wakes nobody until a look on the interval found none (spec 20 §16.2). */
  contest(key: StageSetKey, access: Access, o: { readonly id: ObjectId; readonly contested: boolean }): void;
  /** The StageSet waits for nothing any more. */
  release(key: StageSetKey): void;
  /** Open watches. */
  readonly watches: number;
}

/** Polling where a watch is refused: the first look, growing by half to the last (spec 20 §9.6). */
const firstPollMs = 1_000;
const slowestPollMs = 15_000;

interface WaitingStage extends StageWatch {
  readonly slots: ReadonlyMap<string, Followed>;
  readonly notCurrent: Set<string>;
  polls: number;
  timer: Disposable | undefined;
}

interface KeyState {
  readonly key: StageSetKey;
  readonly slots: Map<string, Slot>;
  readonly stages: Map<string, WaitingStage>;
  readonly guarded: Map<string, Guarded>;
  readonly alarm: DriftAlarm;
  targets: ReadonlyMap<string, WatchTarget>;
}

export function createObserver(options: {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly wake: (key: StageSetKey, cause: "readiness" | "drift") => void;
}): Observer {
  const { clock, wake } = options;
  const keys = new Map<string, KeyState>();

  const usersOf = (users: ReadonlySet<string>): readonly KeyState[] =>
    [...users].flatMap((user) => keys.get(user) ?? []);
  const watches = createSharedWatches({
    clock,
    logger: options.logger,
    onEvent: (watch, event) => onEvent(watch, event),
    // What was missed is read by the pass this wakes.
    onGap: (users) => {
      for (const state of usersOf(users)) {
        if (state.stages.size > 0) wake(state.key, "readiness");
        state.alarm.checkSoon();
      }
    },
    onOpen: (users) => {
      for (const state of usersOf(users)) state.alarm.checkSoon();
    },
    onRefused: (users) => {
      for (const state of usersOf(users)) schedulePolls(state);
    },
  });

  const stateOf = (key: StageSetKey): KeyState => {
    const name = keyName(key);
    const known = keys.get(name);
    if (known !== undefined) return known;
    const slots = new Map<string, Slot>();
    const guarded = new Map<string, Guarded>();
    const alarm = createDriftAlarm({ clock, slots, guarded, wake: (cause) => wake(key, cause), unseenBy });
    const fresh: KeyState = { key, slots, stages: new Map(), guarded, alarm, targets: new Map() };
    keys.set(name, fresh);
    return fresh;
  };

  const unseenBy = (slot: Slot): number | undefined => {
    const stream = slot.watch === undefined ? undefined : watches.get(slot.watch)?.stream;
    return stream === slot.stream ? undefined : stream;
  };
  /** The open watch vouches for what was seen in this stretch of it. */
  const isSeen = (slot: Slot): boolean =>
    slot.stream !== undefined && slot.watch !== undefined && watches.get(slot.watch)?.stream === slot.stream;

  const store = (
    state: KeyState,
    slot: string,
    seen: Sight & {
      readonly object: KubeObject | undefined;
      readonly keep: boolean;
      readonly in: Pick<Slot, "watch" | "stream">;
    },
  ): boolean => {
    const { object } = seen;
    const before = state.slots.get(slot);
    if (isOutdated(seen, before)) return false;
    const resourceVersion = seen.resourceVersion ?? before?.resourceVersion ?? "0";
    const expires = object === undefined ? (before?.expires ?? false) : isExpiringJob(object);
    const readiness: Readiness =
      object !== undefined
        ? readinessOf(object)
        : expires
          ? expired
          : { status: "NotFound", message: "does not exist" };
    const seenAt = clock.monotonic();
    const news =
      before === undefined ||
      before.resourceVersion !== resourceVersion ||
      before.readiness.status !== readiness.status ||
      before.readiness.message !== readiness.message;
    const print = object === undefined ? undefined : printOf(object);
    const expected = state.guarded.get(slot)?.print;
    state.slots.set(slot, {
      readiness: news ? readiness : before.readiness,
      resourceVersion,
      expires,
      explanation: object === undefined || readiness.status === "Current" ? undefined : explanationOf(object),
      object: seen.keep || before?.object !== undefined ? object : undefined,
      seenAt,
      changedAt: news ? seenAt : before.changedAt,
      // Thousands of these are held: equal ones are held once.
      print: samePrint(expected, print) ? expected : samePrint(before?.print, print) ? before?.print : print,
      ...seen.in,
    });
    return news;
  };

  /** Wakes the key when a stage's verdict may have changed for good: all Current, or one Failed; or when one is gone. */
  const decide = (state: KeyState, slot: string): void => {
    const status = state.slots.get(slot)?.readiness.status;
    for (const stage of state.stages.values()) {
      const followed = stage.slots.get(slot);
      if (followed === undefined) continue;
      if (status === "Current") stage.notCurrent.delete(slot);
      else stage.notCurrent.add(slot);
      if (followed.anyChange || status === "Failed" || stage.notCurrent.size === 0) wake(state.key, "readiness");
      else if (status === "NotFound") state.alarm.lost(slot);
    }
  };

  const onEvent = (
    watch: SharedWatch,
    { type, object }: { readonly type: string; readonly object: KubeObject },
  ): void => {
    const { access, resource, owner } = watch.target;
    const labels = object.metadata.labels ?? {};
    const { group, kind } = resource;
    const slot = slotOf(access, {
      group,
      kind,
      namespace: object.metadata.namespace ?? "",
      name: object.metadata.name,
    });
    const key = owner ?? { namespace: labels[namespaceLabel] ?? "", name: labels[nameLabel] ?? "" };
    const named = keys.get(keyName(key));
    // Another StageSet may have relabelled what one of the watch's users applied: that one's drift is what it is.
    const others = owner === undefined ? usersOf(watch.users).filter((state) => state !== named) : [];
    for (const state of [named, ...others]) if (state !== undefined) deliver(watch, { type, object, state, slot });
  };

  const deliver = (
    watch: SharedWatch,
    event: { readonly type: string; readonly object: KubeObject; readonly state: KeyState; readonly slot: string },
  ): void => {
    const { type, object, state, slot } = event;
    const before = state.slots.get(slot);
    if (before === undefined) return;
    const seen = {
      resourceVersion: object.metadata.resourceVersion ?? "0",
      since: clock.monotonic(),
      keep: false,
      in: { watch: watchName(watch.target), stream: watch.stream },
    };
    if (type === "DELETED") {
      if (isOutdated(seen, before)) return;
      store(state, slot, { ...seen, object: undefined });
    } else if (!store(state, slot, { ...seen, object })) {
      if (![...state.stages.values()].some((stage) => stage.slots.get(slot)?.anyChange === true)) return;
    }
    decide(state, slot);
    state.alarm.look(slot);
  };

  const schedulePolls = (state: KeyState): void => {
    for (const stage of state.stages.values()) {
      const watched =
        !stage.poll && stage.followed.every((each) => watches.get(watchName(waitTarget(stage, each))) !== undefined);
      if (stage.timer !== undefined || watched) continue;
      const delayMs = Math.min(slowestPollMs, firstPollMs * 1.5 ** stage.polls);
      stage.timer = clock.timer(delayMs, () => {
        stage.timer = undefined;
        stage.polls++;
        wake(state.key, "readiness");
      });
    }
  };

  const followStages = (state: KeyState, stages: readonly StageWatch[]): void => {
    const before = new Map(state.stages);
    state.stages.clear();
    for (const stage of stages) {
      const earlier = before.get(stage.stage);
      const slots = new Map(stage.followed.map((each) => [slotOf(stage.access, each.id), each]));
      const notCurrent = new Set([...slots.keys()].filter((slot) => !isCurrent(state.slots.get(slot))));
      state.stages.set(stage.stage, { ...stage, slots, notCurrent, polls: earlier?.polls ?? 0, timer: undefined });
    }
    for (const stage of before.values()) stage.timer?.[Symbol.dispose]();
  };

  const guard = (state: KeyState, guarded: readonly Guarded[]): void => {
    state.guarded.clear();
    for (const each of guarded) {
      const slot = slotOf(each.access, each.id);
      const known = state.slots.get(slot);
      if (known === undefined) continue;
      state.guarded.set(slot, each);
      const watch = watchName(guardTarget(state.key, each));
      state.slots.set(slot, {
        ...known,
        print: samePrint(each.print, known.print) ? each.print : known.print,
        watch,
        stream: known.watch === watch ? known.stream : undefined,
      });
    }
    // What was dropped from the release is followed no more.
    const followed = [...state.stages.values()].map((stage) => stage.slots);
    for (const slot of state.slots.keys())
      if (!state.guarded.has(slot) && !followed.some((slots) => slots.has(slot))) state.slots.delete(slot);
  };

  return {
    note(key, access, { id, object, keep, since }) {
      const state = stateOf(key);
      const slot = slotOf(access, id);
      const before = state.slots.get(slot);
      const watch = before?.watch === undefined ? undefined : watches.get(before.watch);
      const stream = watch?.stream !== undefined && watch.openedAt <= since ? watch.stream : before?.stream;
      const resourceVersion = object === undefined ? undefined : (object.metadata.resourceVersion ?? "0");
      store(state, slot, { object, keep, resourceVersion, since, in: { watch: before?.watch, stream } });
    },
    get: (key, access, id) => keys.get(keyName(key))?.slots.get(slotOf(access, id)),
    isLive(key, access, id) {
      const slot = keys.get(keyName(key))?.slots.get(slotOf(access, id));
      return slot !== undefined && isSeen(slot);
    },
    vouches(key, access, { id, print }) {
      const slot = keys.get(keyName(key))?.slots.get(slotOf(access, id));
      return (
        slot !== undefined && slot.readiness.status !== "Terminating" && samePrint(slot.print, print) && isSeen(slot)
      );
    },
    pause: (key) => keys.get(keyName(key))?.alarm.pause(),
    resume(key) {
      const state = keys.get(keyName(key));
      if (state !== undefined && state.guarded.size > 0) state.alarm.arm();
    },
    follow(key, { stages, guarded }) {
      if (stages.length === 0 && guarded?.length === 0) {
        this.release(key);
        return;
      }
      const state = stateOf(key);
      followStages(state, stages);
      if (guarded !== undefined) guard(state, guarded);
      const targets = new Map<string, WatchTarget>();
      const add = (target: WatchTarget): void => void targets.set(watchName(target), target);
      for (const stage of state.stages.values()) for (const each of stage.followed) add(waitTarget(stage, each));
      for (const each of state.guarded.values()) add(guardTarget(key, each));
      watches.retain(keyName(key), targets);
      schedulePolls(state);
      // An event may have come in between the pass' look and now.
      for (const stage of state.stages.values())
        for (const slot of stage.slots.keys())
          if ((state.slots.get(slot)?.changedAt ?? 0) > stage.lookedAt) decide(state, slot);
      if (guarded !== undefined && guarded.length > 0) state.alarm.arm();
    },
    contest: (key, access, { id, contested }) => keys.get(keyName(key))?.alarm.contest(slotOf(access, id), contested),
    release(key) {
      const name = keyName(key);
      const state = keys.get(name);
      if (state === undefined) return;
      for (const stage of state.stages.values()) stage.timer?.[Symbol.dispose]();
      state.alarm[Symbol.dispose]();
      keys.delete(name);
      watches.retain(name, new Map());
    },
    get watches() {
      return watches.size;
    },
    async [Symbol.asyncDispose]() {
      for (const state of keys.values()) {
        for (const stage of state.stages.values()) stage.timer?.[Symbol.dispose]();
        state.alarm[Symbol.dispose]();
      }
      keys.clear();
      await watches[Symbol.asyncDispose]();
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

function isCurrent(slot: Slot | undefined): boolean {
  return slot?.readiness.status === "Current";
}

/** The watch of an object a stage waits for; whole objects, because their status counts. */
function waitTarget(stage: StageWatch, { id, resource, labelled }: Followed): WatchTarget {
  const { key, access, shared } = stage;
  const { namespace } = id;
  if (labelled) {
    const labelSelector = selectorOf(key, shared);
    return { access, resource, namespace, labelSelector, metadataOnly: false, owner: undefined };
  }
  return { access, resource, namespace, fieldSelector: `metadata.name=${id.name}`, metadataOnly: false, owner: key };
}

function guardTarget(key: StageSetKey, { access, resource, id, metadataOnly, shared }: Guarded): WatchTarget {
  const labelSelector = selectorOf(key, shared);
  return { access, resource, namespace: id.namespace, labelSelector, metadataOnly, owner: undefined };
}

function selectorOf(key: StageSetKey, shared: boolean): string {
  const namespace = `${namespaceLabel}=${key.namespace}`;
  return shared ? namespace : `${namespace},${nameLabel}=${key.name}`;
}
