import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { ArtifactServer } from "../support/artifacts.ts";
import type { TestCluster } from "../support/cluster.ts";
import {
  answerPlans,
  doubleKill,
  frozenViewPlans,
  isKill,
  killPlans,
  randomFrozenView,
  randomPlan,
  seededRandom,
  staleRestart,
  type FaultPlan,
  type PlannedFault,
  type RunSize,
} from "./plan.ts";
import { differences, runPlan, type RunResult } from "./run-plan.ts";

/** What was tried so far, over all slices. */
export interface Figures {
  readonly seed: number;
  /** Runs of the reference release with at least one fault that struck. */
  runs: number;
  kills: number;
  /** Different points of a run at which the program was killed, as `<fault> <write>`. */
  killPoints: string[];
  doubleKills: number;
  /** Restarts from older lists. */
  staleRestarts: number;
  /** Runs in which a kind's view stood still and nothing else went wrong. */
  frozenViews: number;
  schedules: number;
  /** Single faults of schedules that struck. */
  faults: number;
  /** All faults that struck, by what they are. */
  struck: Record<string, number>;
  /** Runs that were watched for twenty intervals once nothing went wrong any more. */
  quiet: number;
  /** Plans whose faults were not reached, because the run needed fewer requests. */
  missed: number;
  /** By `--takeovers`. */
  takeovers: number;
  /** By `--specs`: specs the API server took. */
  specs: number;
  specStageSets: number;
  /** By `--releases`: under one controller, and as many under those that are replaced; edits of both. */
  releases: number;
  edits: number;
  /** By `--soak`. */
  soak: Soak;
  violations: { readonly plan: FaultPlan; readonly problems: readonly string[] }[];
  seconds: number;
  /** Seconds of the slowest run, beside those of one without faults. */
  slowest: number;
  /** Runs of more than ten times a clean one's time, which some wait must explain. */
  slow: { readonly plan: FaultPlan; readonly seconds: number; readonly namespace: string }[];
  clean: number;
  /** The largest number of requests in a run, as a share of what is allowed. */
  busiest: number;
  /** Plans taken so far from each endless list. */
  next: Record<Focus | "all", number>;
}

/** What programs that lived long came to, without the time until each was warm. */
export interface Soak {
  minutes: number;
  releases: number;
  /** Sums over all of them, from first to last. */
  grownBytes: number;
  grownDescriptors: number;
  grownTimers: number;
}

/** What a campaign may be limited to. */
export type Focus = (typeof focuses)[number];
const focuses = ["kills", "stale", "answers", "schedules"] as const;

export function focusOf(text: string | undefined): Focus | undefined {
  const focus = focuses.find((each) => each === text);
  if (text !== undefined && focus === undefined)
    throw new RangeError(`"${text}" is none of ${focuses.map((each) => `"${each}"`).join(", ")}`);
  return focus;
}

/** Twenty intervals of the reference release. */
export const longQuietMs = 40_000;

export function noFigures(seed: number): Figures {
  return {
    seed,
    runs: 0,
    kills: 0,
    killPoints: [],
    doubleKills: 0,
    staleRestarts: 0,
    frozenViews: 0,
    schedules: 0,
    faults: 0,
    struck: {},
    quiet: 0,
    missed: 0,
    takeovers: 0,
    specs: 0,
    specStageSets: 0,
    releases: 0,
    edits: 0,
    soak: { minutes: 0, releases: 0, grownBytes: 0, grownDescriptors: 0, grownTimers: 0 },
    violations: [],
    seconds: 0,
    slowest: 0,
    slow: [],
    clean: 0,
    busiest: 0,
    next: { all: 0, kills: 0, stale: 0, answers: 0, schedules: 0 },
  };
}

export async function loadFigures(file: string | undefined, seed: number): Promise<Figures> {
  if (file === undefined) return noFigures(seed);
  const text = await readFile(file, "utf8").catch(() => undefined);
  // Written by saveFigures.
  return text === undefined ? noFigures(seed) : { ...noFigures(seed), ...(JSON.parse(text) as Figures) };
}

export async function saveFigures(file: string | undefined, figures: Figures): Promise<void> {
  if (file !== undefined) await writeFile(file, `${JSON.stringify(figures, undefined, 1)}\n`);
}

/** One line for people: what was tried of everything. */
export function describeFigures(figures: Figures): string {
  const { soak } = figures;
  const parts: readonly (readonly [number, string])[] = [
    [
      figures.runs,
      `${figures.runs} runs with faults: ${figures.kills} kills at ${new Set(figures.killPoints).size} points, ` +
        `${figures.doubleKills} double kills, ${figures.staleRestarts} restarts from older lists, ` +
        `${figures.frozenViews} frozen views, ${figures.schedules} schedules with ${figures.faults} faults, ` +
        `${figures.missed} not reached; ${figures.quiet} were watched for 20 intervals; a run takes ` +
        `${figures.clean.toFixed(1)} s, with faults at most ${figures.slowest.toFixed(1)} s and ` +
        `${Math.round(100 * figures.busiest)} % of the requests allowed; ${figures.violations.length} violations`,
    ],
    [figures.takeovers, `${figures.takeovers} takeovers`],
    [figures.specs, `${figures.specs} specs of ${figures.specStageSets} StageSets`],
    [figures.releases, `${figures.releases} releases twice with ${figures.edits} edits`],
    [
      soak.minutes,
      `one program each in ${soak.minutes.toFixed(0)} minutes and ${soak.releases} releases: ` +
        `${(soak.grownBytes / 2 ** 20).toFixed(2)} MiB, ${soak.grownDescriptors} open files and ${soak.grownTimers} timers more`,
    ],
  ];
  return parts.flatMap(([count, text]) => (count > 0 ? [text] : [])).join("; ");
}

export interface CampaignOptions {
  readonly cluster: TestCluster;
  readonly server: ArtifactServer;
  readonly figures: Figures;
  readonly clean: RunResult;
  readonly plans: Iterable<FaultPlan>;
  /** Runs at once. */
  readonly atOnce: number;
  /** Monotonic ms; no run is begun after it. */
  readonly endAt?: number;
}

/** Runs plans until none is left or the time is over, and counts what they came to. */
export async function runCampaign(options: CampaignOptions): Promise<void> {
  const { figures, clean, endAt = Infinity } = options;
  const plans = options.plans[Symbol.iterator]();
  const worker = async (): Promise<void> => {
    while (performance.now() < endAt) {
      const next = plans.next();
      if (next.done === true) return;
      const plan = next.value;
      const problems = await tryPlan(options, plan).catch((error: unknown) => [String(error)]);
      if (problems.length === 0) continue;
      figures.violations.push({ plan, problems });
      await keep(plan, problems);
    }
  };
  figures.clean = clean.seconds;
  await Promise.all(Array.from({ length: options.atOnce }, worker));
}

async function tryPlan(
  { cluster, server, figures, clean }: CampaignOptions,
  plan: FaultPlan,
): Promise<readonly string[]> {
  const result = await runPlan({ cluster, server, plan });
  figures.seconds += result.seconds;
  figures.slowest = Math.max(figures.slowest, result.seconds);
  if (result.seconds > 10 * clean.seconds) {
    figures.slow.push({ plan, seconds: result.seconds, namespace: result.namespace });
    console.log(`${plan.name} took ${result.seconds.toFixed(1)} s: ${JSON.stringify(result.times)}`);
  }
  if (plan.quietMs === longQuietMs) figures.quiet++;
  count(figures, result.struck);
  const busy = requestsOf(result) / mostRequests(result, clean);
  figures.busiest = Math.max(figures.busiest, busy);
  const hot = busy > 1 ? [`${requestsOf(result)} requests in ${result.seconds.toFixed(1)} s`] : [];
  return [...differences(result, clean), ...hot];
}

function count(figures: Figures, struck: readonly PlannedFault[]): void {
  if (struck.length === 0) {
    figures.missed++;
    return;
  }
  figures.runs++;
  for (const fault of struck) {
    const what = fault.on === "clock" || fault.on === "rate" ? fault.on : `${fault.on} ${fault.do}`;
    figures.struck[what] = (figures.struck[what] ?? 0) + 1;
  }
  const kills = struck.flatMap((fault) => (fault.on === "write" && isKill(fault.do) ? [fault] : []));
  figures.kills += kills.length;
  if (kills.length > 1) figures.doubleKills++;
  if (kills.some((fault) => fault.stale !== undefined)) figures.staleRestarts++;
  for (const fault of kills) {
    const point = `${fault.do} ${fault.number}`;
    if (!figures.killPoints.includes(point)) figures.killPoints.push(point);
  }
  if (struck.every((fault) => fault.on === "event" && fault.do === "freeze")) figures.frozenViews++;
  else if (kills.length === 0) {
    figures.schedules++;
    figures.faults += struck.length;
  }
}

function requestsOf({ size }: Pick<RunResult, "size">): number {
  return size.reads + size.writes;
}

/** What a program that looks again in vain, or starts anew, may ask for at most: more is a loop without a pause. */
function mostRequests({ seconds }: RunResult, clean: RunResult): number {
  return 3 * requestsOf(clean) + 20 * seconds;
}

const results = fileURLToPath(new URL("../../test-results/faults/", import.meta.url));

/** A failing plan as a file that replays alone. */
async function keep(plan: FaultPlan, problems: readonly string[]): Promise<void> {
  const file = join(results, `${plan.name.replaceAll(/[^a-z0-9.]+/gi, "-")}.json`);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, `${JSON.stringify(plan, undefined, 1)}\n`);
  console.log(
    `${plan.name}: ${problems.join("; ").slice(0, 8_000)}\nreplay with: npm run test:faults -- --plan ${file}`,
  );
}

/** A sample that covers the whole run: kills at evenly spread writes, each kind in turn, stale views, schedules. */
export function samplePlans(
  size: RunSize,
  { kills, stale, frozen, schedules, quiet, seed }: Sample,
): readonly FaultPlan[] {
  const schedule = (index: number): FaultPlan => randomPlan(size, { seed: seed + index });
  return [
    // The longest first.
    ...Array.from({ length: quiet }, (_, index) => ({ ...schedule(index), quietMs: shortQuietMs })),
    ...spread(killPlans(size), kills),
    ...Array.from({ length: stale }, (_, index) => staleRestart(size, { seed: seed + index })),
    ...spread(frozenViewPlans(size), frozen),
    ...Array.from({ length: schedules - quiet }, (_, index) => schedule(quiet + index)),
  ];
}

/** Three intervals. */
const shortQuietMs = 6_000;

interface Sample {
  readonly kills: number;
  readonly stale: number;
  readonly frozen: number;
  readonly schedules: number;
  /** Schedules after which it is watched for a while. */
  readonly quiet: number;
  readonly seed: number;
}

function spread<T>(all: readonly T[], count: number): readonly T[] {
  return Array.from({ length: count }, (_, index) => all[Math.floor(((index + 0.5) * all.length) / count)]).filter(
    (each) => each !== undefined,
  );
}

/**
 * Endless, and the same for the same seed; goes on where the figures say that an earlier slice ended. Without `only`: every
 * kill point in an order that spreads over the run, between them schedules, double kills and stale views. Some are watched
 * for twenty intervals.
 */
export function* endlessPlans(
  size: RunSize,
  { figures, only }: { readonly figures: Figures; readonly only?: Focus },
): Generator<FaultPlan, never> {
  const shuffled = <T>(all: readonly T[]): readonly T[] => {
    const order = seededRandom(figures.seed);
    return all
      .map((each) => ({ each, at: order() }))
      .sort((a, b) => a.at - b.at)
      .map(({ each }) => each);
  };
  const kills = shuffled(killPlans(size));
  const views = shuffled(frozenViewPlans(size));
  const answers = shuffled(answerPlans(size));
  const seedOf = (index: number): number => figures.seed * 100_000 + index;
  const lists: Readonly<Record<Focus, (index: number) => FaultPlan>> = {
    kills: (index) => kills[index] ?? doubleKill(size, { seed: seedOf(index) }),
    stale: (index) =>
      index % 2 === 0
        ? staleRestart(size, { seed: seedOf(index) })
        : (views[(index - 1) / 2] ?? randomFrozenView(size, { seed: seedOf(index) })),
    answers: (index) => answers[index] ?? randomPlan(size, { seed: seedOf(index) }),
    schedules: (index) => randomPlan(size, { seed: seedOf(index), patient: index % 8 === 0 }),
  };
  const take = (focus: Focus): FaultPlan => lists[focus](figures.next[focus]++);
  const mixed = ["kills", "schedules", "stale", "kills", "schedules", "answers"] as const;
  for (;;) {
    const index = figures.next.all++;
    const isDouble = index % 9 === 8;
    const plan =
      only === undefined && isDouble
        ? doubleKill(size, { seed: seedOf(index) })
        : take(only ?? mixed[index % mixed.length] ?? "kills");
    yield index % 10 === 0 ? { ...plan, quietMs: longQuietMs } : plan;
  }
}
