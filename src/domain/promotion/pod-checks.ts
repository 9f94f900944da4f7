import { timestamp } from "../status.ts";
import type { Promotion, PromotionState } from "./soak.ts";

type RestartCheck = NonNullable<Promotion["restartGate"]>["checks"][number];
type Baseline = NonNullable<PromotionState["restartBaseline"]>[number];

/** Restarts of one pod: of its init, regular and restartable init containers. */
export interface PodRestarts {
  readonly uid: string;
  readonly restarts: number;
  /** Epoch ms. */
  readonly createdAt: number;
}

/** What was read for the restart and event checks of one gate, by name of the check. */
export interface PodReadings {
  /** The pods a check selects, but for those that are being deleted and those that never restarted. */
  readonly restarts: ReadonlyMap<string, readonly PodRestarts[]>;
  /** Warning Events that count. */
  readonly events: ReadonlyMap<string, number>;
}

/** A check that is over its limit. */
export interface Breach {
  readonly check: string;
  readonly observed: number;
}

/** Pods of one check on record; the ones with the most restarts (spec 40 §5). */
const mostPods = 200;
const mostCounted = 2 ** 31 - 1;

/** Whether the gate has checks that read pods. */
export function readsPods(promotion: Promotion): boolean {
  return promotion.restartGate !== undefined || promotion.eventGate !== undefined;
}

/** Counts of all restart checks at this instant, to be counted from. */
export function baselineOf(promotion: Promotion, readings: PodReadings, now: number): readonly Baseline[] {
  return restartChecks(promotion).map(({ name }) => {
    const pods = (readings.restarts.get(name) ?? []).toSorted((a, b) => b.restarts - a.restarts);
    const restarts = Math.min(mostCounted, sumOf(pods));
    const listed = pods
      .slice(0, mostPods)
      .map((pod) => ({ uid: pod.uid, restarts: Math.min(mostCounted, pod.restarts) }));
    return { name, restarts, time: timestamp(now), pods: listed };
  });
}

/** The baseline on record, with what a check without one is counted from: its pods as they are now. */
export function withFirstCounts(
  promotion: Promotion,
  { state, readings, now }: { readonly state: PromotionState; readonly readings: PodReadings; readonly now: number },
): PromotionState {
  const known = new Set(state.restartBaseline?.map(({ name }) => name));
  const first = baselineOf(promotion, readings, now).filter(({ name }) => !known.has(name));
  return first.length === 0 ? state : { ...state, restartBaseline: [...(state.restartBaseline ?? []), ...first] };
}

/** The first restart check, in list order, that counts more restarts since its baseline than it tolerates. */
export function restartBreach(
  promotion: Promotion,
  { state, readings }: { readonly state: PromotionState; readonly readings: PodReadings },
): Breach | undefined {
  for (const { name, maxRestarts = 0 } of restartChecks(promotion)) {
    const baseline = state.restartBaseline?.find((each) => each.name === name);
    const observed = restartsSince(baseline, readings.restarts.get(name) ?? []);
    if (observed > maxRestarts) return { check: name, observed: Math.min(mostCounted, observed) };
  }
  return undefined;
}

/** The first event check, in list order, that counts more events than it tolerates. */
export function eventBreach(promotion: Promotion, readings: PodReadings): Breach | undefined {
  for (const { name, maxEvents = 0 } of promotion.eventGate?.checks ?? []) {
    const observed = readings.events.get(name) ?? 0;
    if (observed > maxEvents) return { check: name, observed: Math.min(mostCounted, observed) };
  }
  return undefined;
}

/** Restarts of replaced pods never mask those of new ones: each pod is counted from what it had itself. */
function restartsSince(baseline: Baseline | undefined, pods: readonly PodRestarts[]): number {
  if (baseline === undefined) return 0;
  const { pods: listed, time, restarts = 0 } = baseline;
  // Older records know the sum alone.
  if (listed === undefined) return Math.max(0, sumOf(pods) - restarts);
  const before = new Map(listed.map((pod) => [pod.uid, pod.restarts ?? 0]));
  const full = listed.length >= mostPods;
  // The baseline was counted within the second that follows its time.
  const countedAt = time === undefined ? Infinity : Date.parse(time) + 1_000;
  return pods.reduce((sum, pod) => {
    const base = before.get(pod.uid) ?? (full && pod.createdAt < countedAt ? pod.restarts : 0);
    return sum + Math.max(0, pod.restarts - base);
  }, 0);
}

function restartChecks(promotion: Promotion): readonly RestartCheck[] {
  return promotion.restartGate?.checks ?? [];
}

function sumOf(pods: readonly PodRestarts[]): number {
  return pods.reduce((sum, pod) => sum + pod.restarts, 0);
}
