import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { ArtifactServer } from "../support/artifacts.ts";
import type { TestCluster } from "../support/cluster.ts";
import { doubleKill, killPlans, randomPlan, seededRandom, staleRestart, type FaultPlan, type RunSize } from "./plan.ts";
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
  schedules: number;
  /** Single faults of schedules that struck. */
  faults: number;
  /** Plans whose faults were not reached, because the run needed fewer requests. */
  missed: number;
  takeovers: number;
  violations: { readonly plan: FaultPlan; readonly problems: readonly string[] }[];
  seconds: number;
  /** Seconds of the slowest run, beside those of one without faults. */
  slowest: number;
  /** Runs of more than ten times a clean one's time, which some wait must explain. */
  slow: { readonly plan: FaultPlan; readonly seconds: number; readonly namespace: string }[];
  clean: number;
  /** The largest number of requests in a run, as a share of what is allowed. */
  busiest: number;
  /** Plans taken from the endless list so far. */
  next: number;
}

export function noFigures(seed: number): Figures {
  return {
    seed,
    runs: 0,
    kills: 0,
    killPoints: [],
    doubleKills: 0,
    staleRestarts: 0,
    schedules: 0,
    faults: 0,
    missed: 0,
    takeovers: 0,
    violations: [],
    seconds: 0,
    slowest: 0,
    slow: [],
    clean: 0,
    busiest: 0,
    next: 0,
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

/** One line for people. */
export function describeFigures(figures: Figures): string {
  return (
    `${figures.runs} runs with faults: ${figures.kills} kills at ${new Set(figures.killPoints).size} points, ` +
    `${figures.doubleKills} double kills, ${figures.staleRestarts} restarts from older lists, ${figures.schedules} schedules with ${figures.faults} faults, ` +
    `${figures.missed} not reached; a run takes ${figures.clean.toFixed(1)} s, with faults at most ` +
    `${figures.slowest.toFixed(1)} s and ${Math.round(100 * figures.busiest)} % of the requests allowed; ${figures.violations.length} violations`
  );
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
  if (result.struck === 0) figures.missed++;
  else {
    figures.runs++;
    const kills = plan.faults.filter((fault) => fault.on === "write" && /^(kill|term)/.test(fault.do));
    figures.kills += Math.min(kills.length, result.struck);
    if (kills.length > 1) figures.doubleKills++;
    if (kills.some((fault) => fault.on === "write" && fault.stale !== undefined)) figures.staleRestarts++;
    for (const fault of kills) if (fault.on === "write") figures.killPoints.push(`${fault.do} ${fault.number}`);
    if (kills.length === 0) {
      figures.schedules++;
      figures.faults += result.struck;
    }
  }
  const busy = requestsOf(result) / mostRequests(result, clean);
  figures.busiest = Math.max(figures.busiest, busy);
  const hot = busy > 1 ? [`${requestsOf(result)} requests in ${result.seconds.toFixed(1)} s`] : [];
  return [...differences(result, clean), ...hot];
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

/** A sample that covers the whole run: kills at evenly spread writes, each kind in turn, stale restarts, schedules. */
export function samplePlans(size: RunSize, { kills, stale, schedules, seed }: Sample): readonly FaultPlan[] {
  const all = killPlans(size);
  const picked = Array.from({ length: kills }, (_, index) => all[Math.floor(((index + 0.5) * all.length) / kills)]);
  return [
    ...picked.filter((plan) => plan !== undefined),
    ...Array.from({ length: stale }, (_, index) => staleRestart(size, { seed: seed + index })),
    ...Array.from({ length: schedules }, (_, index) => randomPlan(size, { seed: seed + index })),
  ];
}

interface Sample {
  readonly kills: number;
  readonly stale: number;
  readonly schedules: number;
  readonly seed: number;
}

/** Every kill point in an order that spreads over the run, between them schedules, double kills, stale restarts; endless. */
export function* endlessPlans(size: RunSize, figures: Figures): Generator<FaultPlan, never> {
  const order = seededRandom(figures.seed);
  const kills = killPlans(size)
    .map((plan) => ({ plan, at: order() }))
    .sort((a, b) => a.at - b.at);
  for (;;) {
    const index = figures.next++;
    const round = Math.floor(index / 3);
    const seed = figures.seed * 100_000 + round;
    const kill = kills[round];
    if (index % 3 === 0) yield kill?.plan ?? doubleKill(size, { seed: seed + 50_000 });
    else if (index % 3 === 1) yield randomPlan(size, { seed, patient: round % 8 === 0 });
    else if (round % 3 === 0) yield doubleKill(size, { seed });
    else yield round % 3 === 1 ? staleRestart(size, { seed }) : randomPlan(size, { seed: seed + 1_000_000 });
  }
}
