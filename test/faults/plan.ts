import type { EventFault } from "../support/fault-proxy.ts";

/**
 * What goes wrong in one run, as data: a failing plan is a small JSON file that replays alone
 * (`npm run test:faults -- --plan FILE`).
 */
export interface FaultPlan {
  readonly name: string;
  readonly faults: readonly PlannedFault[];
  /** When all is done and nothing goes wrong any more: that long nothing may be written. Default: not looked at. */
  readonly quietMs?: number;
}

export type PlannedFault =
  | { readonly on: "write"; readonly number: number; readonly do: WriteFault; readonly stale?: StaleStart }
  | { readonly on: "read"; readonly number: number; readonly do: AnswerFault }
  /** The machine's wall time jumps by `ms` at this write. */
  | { readonly on: "clock"; readonly number: number; readonly ms: number }
  /** From this write on time passes that many times as fast for the controller. */
  | { readonly on: "rate"; readonly number: number; readonly rate: number }
  | {
      readonly on: "event";
      readonly kind: string;
      readonly number: number;
      readonly do: PlannedEventFault;
      /** Of `freeze`: what is frozen comes when that many writes have been answered; default 1. */
      readonly writes?: number;
    };

/** The kinds that the restarted program is first shown as they were `writes` acknowledged writes before it died. */
export interface StaleStart {
  readonly kinds: readonly string[];
  readonly writes: number;
}

/**
 * `kill`: SIGKILL before the write is sent, after the server acted but before its answer, or after the answer. `term`:
 * SIGTERM after the server acted.
 */
export type WriteFault = KillFault | AnswerFault;
export type KillFault = "kill.before" | "kill.committed" | "kill.answered" | "term";

/**
 * `<status>.committed`: answered so although the server acted. `hang`: never answered. `trickle`: the server acts, and its
 * answer comes at one byte per second.
 */
export type AnswerFault =
  | "drop"
  | "swallow"
  | "truncate"
  | "slow"
  | "hang"
  | "trickle"
  | "409"
  | "410"
  | "429"
  | "500"
  | "503"
  | "504"
  | "504.committed"
  | "500.committed";

export type PlannedEventFault = Exclude<EventFault, { readonly delayMs: number }> | "delay";

export const killFaults: readonly KillFault[] = ["kill.before", "kill.committed", "kill.answered", "term"];
/** 409 is no answer to a create or an apply that would be true, so it is for writes with a precondition alone. */
export const answerFaults: readonly AnswerFault[] = [
  "drop",
  "swallow",
  "truncate",
  "slow",
  "409",
  "429",
  "500",
  "503",
  "504",
  "504.committed",
  "500.committed",
];
export const eventFaults: readonly PlannedEventFault[] = [
  "double",
  "replay",
  "swap",
  "merge",
  "freeze",
  "cut",
  "gone",
  "delay",
  "drop",
  "silence",
];

/** Answers that come only when the request is given up, after 30 s. */
const endless: readonly AnswerFault[] = ["hang", "trickle"];
const hourMs = 3_600_000;
/** An hour and a day either way, and to beyond 2038. */
const clockJumps = [hourMs, -hourMs, 24 * hourMs, -24 * hourMs, 13 * 366 * 24 * hourMs];

/** Twice as fast as the API server's time, and half. */
const clockRates = [2, 0.5];

/** The kinds the engine follows for its own state. */
export const watchedKinds = ["stagesets", "stageinventories", "externalartifacts"] as const;
/** The kinds of the reference release whose watches bring readiness and drift. */
export const appliedKinds = ["configmaps", "secrets", "services", "serviceaccounts", "deployments"] as const;

/** How much of each a run without faults has. */
export interface RunSize {
  readonly writes: number;
  readonly reads: number;
  readonly events: ReadonlyMap<string, number>;
}

export function isKill(fault: WriteFault): fault is KillFault {
  return fault === "term" || fault.startsWith("kill.");
}

/** Every kill point of a run: before each write, after it, after its answer, and by SIGTERM. */
export function killPlans({ writes }: Pick<RunSize, "writes">): readonly FaultPlan[] {
  return numbersTo(writes).flatMap((number) =>
    killFaults.map((fault) => ({ name: `${fault} ${number}`, faults: [{ on: "write", number, do: fault }] }) as const),
  );
}

/** The view of each kind, frozen from each of its events on until the next write is done. */
export function frozenViewPlans({ events }: Pick<RunSize, "events">): readonly FaultPlan[] {
  return [...watchedKinds, ...appliedKinds].flatMap((kind) =>
    numbersTo(events.get(kind) ?? 0).map((number) => frozenView({ kind, number, writes: 1 })),
  );
}

/** A view that is frozen for one to eight writes. */
export function randomFrozenView(size: Pick<RunSize, "events">, { seed }: { readonly seed: number }): FaultPlan {
  const { upTo, pick } = choices(seededRandom(seed));
  const kind = pick([...watchedKinds, ...appliedKinds]);
  return frozenView({ kind, number: upTo(size.events.get(kind) ?? 1), writes: upTo(8) });
}

function frozenView(of: { readonly kind: string; readonly number: number; readonly writes: number }): FaultPlan {
  const name = `freeze ${of.kind} at ${of.number} for ${of.writes}`;
  return { name, faults: [{ on: "event", do: "freeze", ...of }] };
}

/** Each write answered in each way that is not the plain one. */
export function answerPlans({ writes }: Pick<RunSize, "writes">): readonly FaultPlan[] {
  return numbersTo(writes).flatMap((number) =>
    answerFaults.map(
      (fault) => ({ name: `${fault} ${number}`, faults: [{ on: "write", number, do: fault }] }) as const,
    ),
  );
}

/** A generator of numbers in [0, 1) that gives the same ones for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * A plan of one to three faults without a kill, for a program that goes on. `patient`: also faults that take as long as
 * a request may.
 */
export function randomPlan(
  size: RunSize,
  { seed, patient = false }: { readonly seed: number; readonly patient?: boolean },
): FaultPlan {
  const random = seededRandom(seed);
  const { upTo, pick } = choices(random);
  const answers = [...answerFaults, ...(patient ? endless : [])];
  const faults = numbersTo(upTo(3)).map((): PlannedFault => {
    const kind = random();
    if (kind < 0.35) return { on: "write", number: upTo(size.writes), do: pick(answers) };
    if (kind < 0.45)
      return {
        on: "read",
        number: upTo(size.reads),
        do: pick([...answers.filter((each) => each !== "409"), "410"] as const),
      };
    if (kind < 0.52) return { on: "clock", number: upTo(size.writes), ms: pick(clockJumps) };
    if (kind < 0.56) return { on: "rate", number: upTo(size.writes), rate: pick(clockRates) };
    const watched = pick([...watchedKinds, ...watchedKinds, ...appliedKinds]);
    // A lost event of a StageSet shows only when the watch is opened anew, which takes minutes.
    const lossless = eventFaults.filter((each) => each !== "drop" && each !== "silence");
    const fault = pick(watched === "externalartifacts" ? eventFaults : lossless);
    return { on: "event", kind: watched, number: upTo(size.events.get(watched) ?? 1), do: fault };
  });
  return { name: `seed ${seed}`, faults };
}

/** One kill, after which the program starts from lists that are older than what it wrote before. */
export function staleRestart({ writes }: Pick<RunSize, "writes">, { seed }: { readonly seed: number }): FaultPlan {
  const random = seededRandom(seed);
  const { upTo, pick } = choices(random);
  const kinds = watchedKinds.filter(() => random() < 0.6);
  const stale = { kinds: kinds.length === 0 ? [pick(watchedKinds)] : kinds, writes: upTo(12) };
  const faults = [{ on: "write", number: upTo(writes), do: pick(killFaults), stale }] as const;
  return { name: `stale restart, seed ${seed}`, faults };
}

/** Two kills in one run. */
export function doubleKill({ writes }: Pick<RunSize, "writes">, { seed }: { readonly seed: number }): FaultPlan {
  const random = seededRandom(seed);
  const first = 1 + Math.floor(random() * writes);
  const second = first + 1 + Math.floor(random() * 12);
  const fault = (): KillFault => choices(random).pick(killFaults);
  return {
    name: `double kill, seed ${seed}`,
    faults: [
      { on: "write", number: first, do: fault() },
      { on: "write", number: second, do: fault() },
    ],
  };
}

function choices(random: () => number) {
  return {
    upTo: (most: number): number => 1 + Math.floor(random() * Math.max(1, most)),
    pick: <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] ?? (from[0] as T), // Never empty.
  };
}

function numbersTo(count: number): readonly number[] {
  return Array.from({ length: count }, (_, index) => index + 1);
}
