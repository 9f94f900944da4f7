import type { Access } from "../identity/access.ts";
import { watchObjects } from "../kube/object-watch.ts";
import type { ApiResource } from "../kube/request.ts";
import type { Clock } from "../lib/clock.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { StageSetKey } from "./journal.ts";

/** What one watch follows, under one identity and for no other (spec 50 §1.1 rule 5). */
export interface WatchTarget {
  readonly access: Access;
  readonly resource: ApiResource;
  readonly namespace: string;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  readonly metadataOnly: boolean;
  /** Whose objects these are when they do not carry our labels; undefined: the labels say. */
  readonly owner: StageSetKey | undefined;
}

/** A watch with its users. */
export interface SharedWatch {
  readonly target: WatchTarget;
  readonly users: ReadonlySet<string>;
  /** Numbers the stretch without a gap; undefined while no stream is open, so that changes may be on their way. */
  readonly stream: number | undefined;
  /** Monotonic ms at which that stretch began: what was read later is followed by every later change. */
  readonly openedAt: number;
}

/** Watches shared by whoever needs the same one, opened for the first and closed a while after the last. */
export interface SharedWatches extends AsyncDisposable {
  /** What the user needs from now on, by {@link watchName}; what it needed before and is not among it is left. */
  retain(user: string, targets: ReadonlyMap<string, WatchTarget>): void;
  /** Undefined when it is not open: refused, or one too many. */
  get(name: string): SharedWatch | undefined;
  readonly size: number;
}

export interface SharedWatchOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onEvent: (watch: SharedWatch, event: { readonly type: string; readonly object: KubeObject }) => void;
  /** Events may have been missed; `users` may want to look. */
  readonly onGap: (users: ReadonlySet<string>) => void;
  readonly onOpen: (users: ReadonlySet<string>) => void;
  readonly onRefused: (users: ReadonlySet<string>) => void;
}

/** A watch nobody needs is kept this long: the next stage often needs the same one. */
const lingerMs = 5_000;
/** A refused watch is tried again after this time. */
const refusedMs = 60_000;
/** Watches of the process, at most: past it stages are polled and drift is found on the interval. */
const mostWatches = 4_096;

interface Entry {
  readonly name: string;
  readonly target: WatchTarget;
  readonly abort: AbortController;
  readonly users: Set<string>;
  stream: number | undefined;
  openedAt: number;
  linger: Disposable | undefined;
  done: Promise<void>;
}

export function createSharedWatches(options: SharedWatchOptions): SharedWatches {
  const { clock, logger } = options;
  const watches = new Map<string, Entry>();
  const namesOf = new Map<string, ReadonlySet<string>>();
  const refused = new Map<string, number>();
  const ending = new Set<Promise<void>>();
  let lastStream = 0;

  const open = (name: string, target: WatchTarget): Entry => {
    const entry: Entry = {
      name,
      target,
      abort: new AbortController(),
      users: new Set(),
      stream: undefined,
      openedAt: Infinity,
      linger: undefined,
      done: Promise.resolve(),
    };
    /** The number of the stretch goes on when a lost stream is resumed where it was. */
    let stretch = ++lastStream;
    const { access, resource, namespace, labelSelector, fieldSelector, metadataOnly } = target;
    entry.done = watchObjects({
      client: access.client,
      resource,
      namespace: resource.namespaced ? namespace : undefined,
      labelSelector,
      fieldSelector,
      metadataOnly,
      clock,
      signal: entry.abort.signal,
      onEvent: (event) => options.onEvent(entry, event),
      onOpen: ({ resumed }) => {
        entry.stream = stretch;
        if (!resumed || entry.openedAt === Infinity) entry.openedAt = clock.monotonic();
        options.onOpen(entry.users);
      },
      onDown: () => {
        entry.stream = undefined;
      },
      onGap: () => {
        stretch = ++lastStream;
        entry.stream = undefined;
        options.onGap(entry.users);
      },
      onRefused: () => {
        refused.set(name, clock.monotonic() + refusedMs);
        const oldest = refused.keys().next().value;
        if (refused.size > mostWatches && oldest !== undefined) refused.delete(oldest);
        watches.delete(name);
        options.onRefused(entry.users);
      },
    }).catch((error: unknown) => {
      if (!entry.abort.signal.aborted) logger.debug("watch ended", { error: String(error) });
    });
    watches.set(name, entry);
    return entry;
  };
  const mayOpen = (name: string): boolean => {
    const until = refused.get(name);
    if (until !== undefined && until > clock.monotonic()) return false;
    refused.delete(name);
    return watches.size < mostWatches;
  };
  const close = (entry: Entry, why: string): void => {
    entry.linger?.[Symbol.dispose]();
    entry.abort.abort(new Error(why));
    const done = entry.done.finally(() => ending.delete(done));
    ending.add(done);
  };
  const leave = (user: string, name: string): void => {
    const entry = watches.get(name);
    if (entry === undefined || !entry.users.delete(user) || entry.users.size > 0) return;
    entry.linger = clock.timer(lingerMs, () => {
      if (entry.users.size > 0) return;
      watches.delete(name);
      close(entry, "nobody needs it");
    });
  };
  return {
    retain(user, targets) {
      const before = namesOf.get(user) ?? new Set<string>();
      const used = new Set<string>();
      for (const [name, target] of targets) {
        const entry = watches.get(name) ?? (mayOpen(name) ? open(name, target) : undefined);
        if (entry === undefined) continue;
        entry.users.add(user);
        entry.linger?.[Symbol.dispose]();
        entry.linger = undefined;
        used.add(name);
      }
      for (const name of before) if (!used.has(name)) leave(user, name);
      if (used.size === 0) namesOf.delete(user);
      else namesOf.set(user, used);
    },
    get: (name) => watches.get(name),
    get size() {
      return watches.size;
    },
    async [Symbol.asyncDispose]() {
      for (const entry of watches.values()) close(entry, "stopping");
      watches.clear();
      await Promise.all(ending);
    },
  };
}

/** Watches of equal names show the same objects to the same identity. */
export function watchName({ access, resource, namespace, ...rest }: WatchTarget): string {
  return [
    access.key,
    `${resource.group}/${resource.version}/${resource.plural}`,
    resource.namespaced ? namespace : "",
    rest.labelSelector ?? "",
    rest.fieldSelector ?? "",
    rest.metadataOnly ? "metadata" : "whole",
    rest.owner === undefined ? "" : `${rest.owner.namespace}/${rest.owner.name}`,
  ].join(" ");
}
