import type { StageSetSpec } from "../../api/stage-set.ts";
import { durationMs } from "../../lib/duration.ts";
import { neverFires, parseCron, type Cron } from "../formats/cron.ts";
import { startAfter, startAtOrBefore } from "./cron-starts.ts";

export type UpdateWindow = NonNullable<StageSetSpec["updateWindows"]>[number];

/** Whether updates may go ahead at one instant, and for how long that stays so (spec 40 §2). */
export interface WindowState {
  readonly open: boolean;
  /**
   * The first instant at which it is the other way round, epoch ms. `never`: as the windows are written, it stays.
   * `unknown`: not within what is searched.
   */
  readonly changesAt: number | "never" | "unknown";
  /** To be looked at again from here on, epoch ms; always after the instant asked for. */
  readonly validUntil: number;
}

/** Bounds of one search (spec 40 §2). */
const farthestMs = 400 * 24 * 60 * 60_000;
const mostStarts = 10_000;
/** How long a state is relied on when nobody can tell when it changes. */
const unknownForMs = 5_000;

type Prepared = { readonly type: "Allow" | "Deny" } & (
  | { readonly kind: "once"; readonly from: number; readonly to: number }
  | { readonly kind: "recurring"; readonly cron: Cron; readonly durationMs: number }
);

/** One window on the way through time. */
interface Track {
  readonly window: Prepared;
  active: boolean;
  /** When it turns, epoch ms; Infinity: never again. */
  turnsAt: number;
}

/** What may be searched for in one evaluation. */
interface Search {
  readonly horizon: number;
  /** Below 0: the search has ended, and what it found since means nothing. */
  startsLeft: number;
}

/**
 * The state of a StageSet's windows at `now`. A window that is malformed counts as never active: a spec with one is
 * refused before it is asked for.
 */
export function stateOfWindows(windows: readonly UpdateWindow[], now: number): WindowState {
  const search: Search = { horizon: now + farthestMs, startsLeft: mostStarts };
  const tracks = windows.map(prepare).map((window): Track => ({ window, active: isActive(window, now), turnsAt: now }));
  const open = isOpen(tracks);
  for (const track of tracks) track.turnsAt = turnAfter(track, now, search);
  if (!open && search.startsLeft >= 0 && noAllowComes(tracks))
    return { open, changesAt: "never", validUntil: Infinity };
  while (search.startsLeft >= 0) {
    const at = earliest(tracks);
    if (at === Infinity) return { open, changesAt: "never", validUntil: Infinity };
    if (at > search.horizon) return { open, changesAt: "unknown", validUntil: search.horizon };
    const turning = tracks.filter(({ turnsAt }) => turnsAt === at);
    for (const track of turning) track.active = !track.active;
    if (isOpen(tracks) !== open) return { open, changesAt: at, validUntil: at };
    for (const track of turning) track.turnsAt = turnAfter(track, at, search);
  }
  return { open, changesAt: "unknown", validUntil: now + unknownForMs };
}

function earliest(tracks: readonly Track[]): number {
  let least = Infinity;
  for (const { turnsAt } of tracks) if (turnsAt < least) least = turnsAt;
  return least;
}

/** Deny wins; with an Allow declared, one of them has to be active. */
function isOpen(tracks: readonly Track[]): boolean {
  let allowed = false;
  let declared = false;
  for (const { window, active } of tracks) {
    if (window.type === "Deny" && active) return false;
    declared ||= window.type === "Allow";
    allowed ||= window.type === "Allow" && active;
  }
  return allowed || !declared;
}

/** Some Allow is declared, none is active and none will be. */
function noAllowComes(tracks: readonly Track[]): boolean {
  const allows = tracks.filter(({ window }) => window.type === "Allow");
  return allows.length > 0 && allows.every(({ active, turnsAt }) => !active && turnsAt === Infinity);
}

function prepare(window: UpdateWindow): Prepared {
  const { type, schedule, duration, timeZone, from, to } = window;
  if (from !== undefined && to !== undefined) return { type, kind: "once", from: Date.parse(from), to: Date.parse(to) };
  const parsed = parseCron(schedule ?? "", timeZone);
  const lasts = durationMs(duration ?? "") ?? 0;
  return parsed.kind === "cron"
    ? { type, kind: "recurring", cron: parsed.cron, durationMs: lasts }
    : { type, kind: "once", from: 0, to: 0 };
}

function isActive(window: Prepared, at: number): boolean {
  if (window.kind === "once") return window.from <= at && at < window.to;
  return startAtOrBefore(window.cron, at, at - window.durationMs + 1) !== undefined;
}

/** When the window turns next after `at`; beyond the horizon any instant will do. */
function turnAfter({ window, active }: Track, at: number, search: Search): number {
  if (window.kind === "once") {
    if (at < window.from) return window.from;
    return at < window.to ? window.to : Infinity;
  }
  const { cron } = window;
  if (neverFires(cron)) return Infinity;
  if (!active) {
    search.startsLeft--;
    return startAfter(cron, at) ?? Infinity;
  }
  // Occurrences that overlap or meet are one: the last start before the end moves the end.
  let last = startAtOrBefore(cron, at, at - window.durationMs + 1) ?? at;
  for (;;) {
    const end = last + window.durationMs;
    if (end > search.horizon || search.startsLeft < 0) return end;
    search.startsLeft--;
    const next = startAtOrBefore(cron, end, last + 1);
    if (next === undefined) return end;
    last = next;
  }
}
