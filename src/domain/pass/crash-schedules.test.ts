import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Stage, StageSetSpec, StageSetStatus } from "../../api/stage-set.ts";
import type { ActionOutcome, ActionRun } from "../actions/action-run.ts";
import { completionOf, type StoredLedger } from "../actions/stage-ledger.ts";
import { checkStatus } from "../invariants.ts";
import { renderObjectId } from "../object-id.ts";
import type { Pin } from "../pins.ts";
import type { RenderedObject } from "../rendered.ts";
import { nextStep } from "./next-step.ts";
import { missingRecord } from "./records.ts";
import {
  emptyMemory,
  factName,
  type Cause,
  type Fact,
  type FactKey,
  type Memory,
  type PassState,
  type RecordedStage,
  type Results,
} from "./state.ts";
import type { Effect, InventoryRecord, Step } from "./step.ts";

/** Object names of each stage, by revision. */
type Release = Readonly<Record<string, readonly string[]>>;

/** A cluster, an API server and a source in memory, and the driver's loop over {@link nextStep} with crashes. */
class World {
  readonly objects = new Map<string, { readonly stage: string; readonly revision: string }>();
  readonly inventory = new Map<string, RecordedStage>();
  /** In the order of writes: what was applied, and which stages turned Ready. */
  readonly history: string[] = [];
  status: StageSetStatus = {};
  statusWrites = 0;
  /** As the process knows it, and what another client made of it since. */
  ledger: StoredLedger | undefined;
  newerLedger: StoredLedger | undefined;
  /** UID of the one witness there is; undefined: it is absent. */
  witness: string | undefined;
  /** Records of stages made before their turn. */
  aheads = 0;
  hasFinalizer = false;
  deletedAt: number | undefined;
  gone = false;
  revision = "r1";
  elapsed = 0;
  readonly releases: Readonly<Record<string, Release>>;
  spec: StageSetSpec;
  memory: Memory = emptyMemory;
  facts = new Map<string, Fact>();
  results: Results = noResults();
  causes: ReadonlySet<Cause> = new Set();
  /** What actions did, by stage, list, name and revision; those that are on record were counted as completed. */
  readonly acts: string[] = [];
  completed = 0;
  /** Passes since the action under way began. */
  running = 0;
  /** Passes that looked at the health of one stage alone. */
  ticks = 0;

  constructor(releases: Readonly<Record<string, Release>>, stages: readonly string[]) {
    this.releases = releases;
    this.spec = { stages: stages.map((name) => ({ name, sourceRef: { name: "app" } })) };
  }

  /** One step; a crash before it loses all but what is stored. Gives true when the pass parked or ended. */
  step(): boolean {
    const state = this.#state();
    const step = nextStep(state);
    switch (step.kind) {
      case "need":
        for (const key of step.facts) this.facts.set(factName(key), this.#fact(key));
        return false;
      case "record":
        this.#record(step);
        if (step.remember !== undefined) this.memory = { ...this.memory, ...step.remember };
        if (step.completes !== undefined) this.completed++;
        return this.gone;
      case "do": {
        const missing = missingRecord(state.stored, step.requires);
        if (missing !== undefined) throw new Error(`effect refused: ${missing}`);
        this.memory = { ...this.memory, ...step.remember };
        this.#act(step.effect);
        return false;
      }
      case "park":
        this.memory = { ...this.memory, ...step.remember };
        if (step.watches === "kept" && this.memory.action === undefined) this.#checkTick();
        return true;
      case "end":
        this.memory = { ...this.memory, ...step.outcome.remember };
        return true;
    }
  }

  /** A new pass; `crashed`: in a new process, `wake`: nothing but time has passed. */
  begin(how: "news" | "wake" | "crashed"): void {
    this.causes = new Set([how === "news" ? "source" : how === "wake" ? "time" : "start"]);
    this.facts = new Map();
    this.results = noResults();
    if (how === "crashed") this.memory = emptyMemory;
    const { action } = this.memory;
    // Whatever runs has ended by the next pass but one.
    if (action !== undefined && this.running++ > 0)
      this.memory = { ...this.memory, action: { ...action, outcome: this.#outcome(action) } };
    this.elapsed += 10_000;
  }

  #outcome({ call }: ActionRun): ActionOutcome {
    const anchor = call.action.completionAnchor;
    if (anchor === undefined) return { kind: "completed", jobs: [] };
    this.witness = `witness ${this.acts.length}`;
    return { kind: "completed", jobs: [], witness: { ...anchor, uid: this.witness } };
  }

  #state(): PassState {
    return {
      snapshot: {
        namespace: "ns",
        name: "ss",
        uid: "u",
        generation: 1,
        deletedAt: this.deletedAt,
        annotations: {},
        spec: this.spec,
        invalid: undefined,
        stored: this.status,
      },
      stored: {
        generation: 1,
        hasFinalizer: this.hasFinalizer,
        status: this.status,
        inventory: this.inventory,
        ledger: this.ledger,
      },
      facts: this.facts,
      results: this.results,
      memory: this.memory,
      causes: this.causes,
      options: {
        defaultIntervalMs: 600_000,
        crossNamespace: "allowed",
        requireServiceAccount: false,
        defaultServiceAccount: "sa",
        maxTeardownWaitMs: 0,
        breakGlass: "off",
        runbookLink: () => undefined,
      },
      now: this.#now(),
      elapsed: this.elapsed,
    };
  }

  #fact(key: FactKey): Fact {
    switch (key.kind) {
      case "pins":
        return { kind: "pins", pins: this.spec.stages.map(() => pinOf(this.revision)) };
      case "windows":
        return { kind: "windows", state: { open: true, changesAt: "never", validUntil: Infinity } };
      case "budget":
        return { kind: "budget", reading: { answer: { kind: "value", value: 1 }, readAt: 0 } };
      case "connection":
        return { kind: "connection" };
      case "render": {
        const objects = (this.releases[key.identity.revision]?.[key.stage] ?? []).map(rendered);
        const hash = `${key.stage} ${key.identity.revision}`;
        return {
          kind: "render",
          render: { kind: "rendered", objects, hash, substitutionDigest: "", provisional: false },
        };
      }
      case "ladder":
        return { kind: "ladder", ladder: { rungs: [], origin: "" } };
      case "versionFile":
        return { kind: "versionFile", reading: { kind: "unobtainable" } };
      case "preflight":
        return { kind: "preflight", refusal: undefined };
      case "images":
        throw new Error("no object has images");
      case "readiness":
        return { kind: "readiness", readiness: { kind: "ready" } };
      case "health":
        return { kind: "health", readiness: { kind: "ready" } };
      case "gateMetrics":
        return { kind: "gateMetrics", metrics: { analysis: undefined, fastTrack: undefined } };
      case "pods":
        return { kind: "pods", readings: undefined };
      case "recovery": {
        const found = new Map(key.stages.map((stage) => [stage, this.#ownedBy(stage)]));
        return { kind: "recovery", found, unlisted: [] };
      }
      case "expressions":
        return { kind: "expressions", invalid: undefined };
      case "dependencies":
        return { kind: "dependencies", unmet: undefined };
      case "namespace":
        return { kind: "namespace", terminating: false };
      case "ledger":
        this.ledger = this.newerLedger ?? this.ledger;
        return { kind: "ledger" };
      case "witness":
        return {
          kind: "witness",
          found: this.witness === undefined ? { kind: "absent" } : { kind: "there", uid: this.witness },
        };
    }
  }

  /** Spec 40 §5: a tick reads the health of the stage it is about, and nothing else. */
  #checkTick(): void {
    const read = [...this.facts.keys()];
    if (read.length !== 1 || read[0]?.startsWith("health ") !== true)
      throw new Error(`a tick reads ${read.join(", ")}`);
    this.ticks++;
  }

  /** E3: what a stage is at has passed the gate of each stage before it. A soak takes all of its time. */
  #checkGates(stage: string, revision: string): void {
    for (const { name, promotion } of this.spec.stages) {
      if (name === stage) return;
      const entry = this.status.stages?.find((each) => each.name === name);
      const { phase, since = "" } = entry?.promotionState ?? {};
      if (promotion === undefined || revision !== this.revision) continue;
      if (phase !== "Promoted" || entry?.enteredRevision !== revision)
        throw new Error(`E3: "${stage}" is written at ${revision} while the gate of "${name}" is closed`);
      if (this.#now() - Date.parse(since) < soakMs) throw new Error(`"${name}" soaked for too short a time`);
    }
  }

  #now(): number {
    return 1_700_000_000_000 + this.elapsed;
  }

  #ownedBy(stage: string): readonly { readonly id: string; readonly version: string }[] {
    return [...this.objects].flatMap(([id, object]) => (object.stage === stage ? [{ id, version: "v1" }] : []));
  }

  #record({ write }: Extract<Step, { kind: "record" }>): void {
    switch (write.kind) {
      case "status":
        checkStatus(write.status, 1);
        for (const stage of write.status.stages ?? []) {
          const before = this.status.stages?.find((each) => each.name === stage.name);
          if (
            stage.phase === "Ready" &&
            (before?.phase !== "Ready" || before.appliedRevision !== stage.appliedRevision)
          )
            this.history.push(`ready ${stage.name} ${stage.appliedRevision ?? ""}`);
        }
        this.#checkSuccess(write.status);
        this.status = write.status;
        this.statusWrites++;
        return;
      case "inventory":
        for (const ahead of write.ahead ?? []) this.#checkAhead(ahead);
        for (const { stage, position, entries, serviceAccount } of [write, ...(write.ahead ?? [])])
          this.inventory.set(stage, { stage, position, entries, shards: 1, target: undefined, serviceAccount });
        return;
      case "ledgerCreation":
        if (this.ledger !== undefined) throw new Error("a ledger that is there is created");
        this.ledger = { uid: "l", resourceVersion: "1", baseline: [], status: {} };
        return;
      case "ledger":
        if (write.before !== this.ledger) throw new Error("a ledger is written that nobody read");
        this.ledger = { ...write.before, status: write.status };
        return;
      case "inventoryRemoval":
        this.inventory.delete(write.stage);
        return;
      case "finalizer":
        this.hasFinalizer = write.change === "add";
        this.gone = write.change === "remove";
    }
  }

  /** Success is said once everything that was dropped is gone (spec 20 steps 25 and 26). */
  #checkSuccess({ lastAppliedRevisions }: StageSetStatus): void {
    if (lastAppliedRevisions?.["ns/app"] !== this.revision) return;
    const wanted = Object.values(this.releases[this.revision] ?? {}).flat();
    const left = [...this.objects.keys()].filter((id) => !wanted.some((name) => rendered(name).id === id));
    if (left.length > 0) throw new Error(`success is said while ${left.join(", ")} is there`);
  }

  /** E2, and spec 50 §1.6: a record made before the stage has its turn takes nothing back. */
  #checkAhead({ stage, entries, serviceAccount }: InventoryRecord): void {
    const before = this.inventory.get(stage);
    for (const { id } of before?.entries ?? [])
      if (!entries.some((entry) => entry.id === id)) throw new Error(`ahead of its turn "${stage}" forgets "${id}"`);
    if (before !== undefined && before.serviceAccount !== serviceAccount)
      throw new Error(`ahead of its turn "${stage}" forgets who applied what is there`);
    this.aheads++;
  }

  #act(effect: Effect): void {
    if (effect.kind === "apply") {
      for (const { id } of effect.objects) this.#write(effect, id);
      const before = this.results.stages.get(effect.stage);
      this.results = {
        ...this.results,
        stages: new Map(this.results.stages).set(effect.stage, {
          identity: effect.identity,
          renderHash: effect.renderHash,
          wavesDone: effect.wave + 1,
          changed: before?.changed ?? [],
          unsettled: [],
          recreating: [],
          failure: undefined,
        }),
      };
      return;
    }
    if (effect.kind === "action") {
      this.#run(effect);
      return;
    }
    // Spec 20 §8.3: a Ready may share its write with what follows it, but not come after an effect.
    if (effect.purpose === "prune" && this.status.stages?.some(({ phase }) => phase !== "Ready") === true)
      throw new Error("something is pruned before every stage is on record as Ready");
    for (const { id } of effect.entries) {
      const wanted = Object.values(this.releases[this.revision] ?? {}).flat();
      if (effect.purpose === "prune" && wanted.some((name) => rendered(name).id === id))
        throw new Error(`"${id}" is pruned and part of the release`);
      this.objects.delete(id);
    }
    this.results = {
      ...this.results,
      deletes: new Map(this.results.deletes).set(effect.stage, {
        stage: effect.stage,
        gone: effect.entries.map((entry) => entry.id),
        pending: [],
        errors: [],
      }),
    };
  }

  /** E5, spec 30 §1 and §4: what is on record does not run, and each list runs at its place. */
  #run({ call }: Extract<Effect, { kind: "action" }>): void {
    const { stage, list, action, revision } = call;
    const entry = this.status.stages?.find((each) => each.name === stage);
    const shown = `${stage} ${list} ${action.name} ${revision}`;
    if (entry?.ledgerRevision === revision && entry.executedActions?.includes(action.name) === true)
      throw new Error(`${shown} runs although it is on record`);
    if (action.scope === "Lifetime" && completionOf(this.ledger, { stage, action: action.name }) !== undefined)
      throw new Error(`${shown} runs although it is in the StageLedger`);
    this.#checkGates(stage, revision);
    const written = this.history.includes(`write ${stage} ${revision}`);
    // One whose witness is gone runs at what is applied.
    const early = action.scope !== "Lifetime" && written;
    if (list === "pre" ? early : !written || entry?.appliedRevision !== revision)
      throw new Error(`${shown} runs at the wrong time`);
    if (entry?.phase === "Ready") throw new Error(`${shown} runs while its stage is Ready`);
    this.running = 0;
    this.acts.push(shown);
  }

  /** E1: nothing is written that is not recorded. A crash may come between two writes of one wave. */
  #write(effect: Extract<Effect, { kind: "apply" }>, id: string): void {
    const recorded = this.inventory.get(effect.stage)?.entries.some((entry) => entry.id === id) ?? false;
    if (!recorded) throw new Error(`E1: "${id}" is written and not in the inventory of "${effect.stage}"`);
    this.#checkGates(effect.stage, effect.identity.revision);
    this.objects.set(id, { stage: effect.stage, revision: effect.identity.revision });
    this.history.push(`write ${effect.stage} ${effect.identity.revision}`);
  }
}

function noResults(): Results {
  return { stages: new Map(), deletes: new Map(), recordFailure: undefined };
}

function pinOf(revision: string): Pin {
  return {
    namespace: "ns",
    name: "app",
    kind: "ExternalArtifact",
    revision,
    digest: `sha256:${revision}`,
    url: "http://x",
    foreign: false,
    foreignSentence: "",
  };
}

function rendered(name: string): RenderedObject {
  const id = { group: "", kind: "ConfigMap", namespace: "ns", name };
  return {
    ...id,
    id: renderObjectId(id),
    version: "v1",
    hash: name,
    body: new Uint8Array(),
    controls: { prune: "enabled", force: false, keepExisting: false, reconcile: "enabled", ignored: [] },
    helmHook: false,
  };
}

const releases: Readonly<Record<string, Release>> = {
  r1: { a: ["kept", "dropped", "moved"], b: ["last"], c: ["end", "late"] },
  r2: { a: ["kept", "added"], b: ["last", "moved"], c: ["end", "new"] },
  // The last stage drops nothing.
  r3: { a: ["kept", "added"], b: ["last"], c: ["end", "late", "new"] },
};
const stages = ["a", "b", "c"];
const mostSteps = 1_000;
/** Some passes are 10 s apart. */
const soakMs = 45_000;

/** Runs until nothing is left to do, with a crash before each of the given steps. */
function runUntil(world: World, done: () => boolean, crashes: Set<number>, counter: { steps: number }): void {
  world.begin("news");
  for (; counter.steps < mostSteps; counter.steps++) {
    if (crashes.has(counter.steps)) world.begin("crashed");
    if (!world.step()) continue;
    if (done()) return;
    world.begin("wake");
  }
  throw new Error(`not done after ${mostSteps} steps: ${JSON.stringify(world.status)}`);
}

function isDeployed(world: World): boolean {
  const applied = world.status.lastAppliedRevisions?.["ns/app"] === world.revision;
  const wanted = Object.values(releases[world.revision] ?? {}).flat().length;
  return applied && world.objects.size === wanted;
}

/** Install, upgrade, teardown. Gives the world at its end and the state after the upgrade. */
function lifetime(
  crashes: ReadonlySet<number>,
  gated: readonly string[] = [],
  acting: readonly string[] = [],
  lists: Stage["actions"] = actions,
  versions: readonly string[] = [],
): {
  readonly world: World;
  readonly steps: number;
  readonly deployed: unknown;
} {
  const world = new World(releases, stages);
  world.spec = {
    stages: world.spec.stages.map((stage) =>
      gated.includes(stage.name) ? { ...stage, promotion: { soak: `${soakMs}ms` } } : stage,
    ),
  };
  world.spec = {
    stages: world.spec.stages.map((stage) => (acting.includes(stage.name) ? { ...stage, actions: lists } : stage)),
  };
  const [first, second] = versions.map((value) => ({ version: { value } }));
  world.spec = { ...world.spec, ...first };
  const counter = { steps: 0 };
  const left = new Set(crashes);
  runUntil(world, () => isDeployed(world), left, counter);
  world.revision = "r2";
  world.spec = { ...world.spec, ...second };
  runUntil(world, () => isDeployed(world), left, counter);
  const deployed = {
    objects: [...world.objects].sort(),
    inventory: [...world.inventory].map(([stage, recorded]) => [stage, recorded.entries.map(({ id }) => id).sort()]),
    stages: world.status.stages,
  };
  world.deletedAt = 1_700_000_000_000;
  runUntil(world, () => world.gone, left, counter);
  return { world, steps: counter.steps, deployed };
}

const actions = {
  pre: [
    { name: "stop", wait: {} },
    { name: "drain", wait: {} },
  ],
  post: [{ name: "tell", wait: {} }],
};

/** E3: no write of a later stage at a revision before the earlier ones were Ready at it. */
function outOfOrder(history: readonly string[]): string | undefined {
  const ready = new Set<string>();
  for (const line of history) {
    const [what, stage = "", revision = ""] = line.split(" ");
    if (what === "ready") ready.add(`${stage} ${revision}`);
    else {
      const early = stages.slice(0, stages.indexOf(stage)).find((other) => !ready.has(`${other} ${revision}`));
      if (early !== undefined) return `${line} before "${early}" was Ready at ${revision}`;
    }
  }
  return undefined;
}

describe("records that share a write (pure)", () => {
  test("a release writes its status once to begin, once between two stages and once to end", () => {
    const world = new World(releases, stages);
    runUntil(world, () => isDeployed(world), new Set(), { steps: 0 });
    expect(world.statusWrites).toBe(stages.length + 1);
    world.revision = "r2";
    runUntil(world, () => isDeployed(world), new Set(), { steps: 0 });
    // What is pruned goes between the last Ready and the end.
    expect(world.statusWrites).toBe(stages.length + 1 + (stages.length + 2));
  });
});

describe("records made ahead of a stage's turn (pure)", () => {
  test("later stages are recorded with the first one, so that their turns need no record of their own", () => {
    const world = new World(releases, stages);
    runUntil(world, () => isDeployed(world), new Set(), { steps: 0 });
    expect(world.aheads).toBe(2);
  });

  test("[20.12] a stage that gets another ServiceAccount keeps the one that applied its objects on record until its turn", () => {
    const world = new World(releases, stages);
    runUntil(world, () => isDeployed(world), new Set(), { steps: 0 });
    const [a, b, c] = world.spec.stages;
    if (a === undefined || b === undefined || c === undefined) throw new Error("there are three stages");
    world.spec = { stages: [a, b, { ...c, serviceAccountName: "other" }] };
    world.revision = "r3";
    runUntil(world, () => isDeployed(world), new Set(), { steps: 0 });
    expect(world.inventory.get("c")?.serviceAccount).toBe("other");
  });
});

describe("a process that dies between any two steps (pure)", () => {
  test("[20.12] an undisturbed life leaves nothing behind and keeps the order of stages", () => {
    const clean = lifetime(new Set());
    expect(clean.world.objects.size).toBe(0);
    expect(outOfOrder(clean.world.history)).toBeUndefined();
  });

  test("[20.12] a crash at each step ends in the same state, orphans nothing and breaks no order", () => {
    const clean = lifetime(new Set());
    for (let step = 0; step < clean.steps; step++) {
      const crashed = lifetime(new Set([step]));
      expect(crashed.deployed, `crash before step ${step}`).toEqual(clean.deployed);
      expect(crashed.world.objects.size, `crash before step ${step}`).toBe(0);
      expect(outOfOrder(crashed.world.history), `crash before step ${step}`).toBeUndefined();
    }
  });

  test("[20.12] any schedule of crashes does", () => {
    const clean = lifetime(new Set());
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(clean.steps * 2), { maxLength: 12 }), (crashes) => {
        const crashed = lifetime(new Set(crashes));
        expect(crashed.deployed).toEqual(clean.deployed);
        expect(crashed.world.objects.size).toBe(0);
        expect(outOfOrder(crashed.world.history)).toBeUndefined();
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("stages with a soak, in a process that dies between any two steps (pure)", () => {
  const gated = ["a", "b"];
  const phases = (world: World): readonly unknown[] =>
    (world.status.stages ?? []).map((entry) => entry.promotionState?.phase);

  test("[20.12] [40.11] a crash at each step lets nothing pass early, and ends in the same state", () => {
    const clean = lifetime(new Set(), gated);
    expect(clean.world.ticks).toBeGreaterThan(4);
    expect(phases(clean.world)).toEqual(["Promoted", "Promoted", undefined]);
    for (let step = 0; step < clean.steps; step++) {
      const crashed = lifetime(new Set([step]), gated);
      expect(crashed.world.objects.size, `crash before step ${step}`).toBe(0);
      expect(phases(crashed.world), `crash before step ${step}`).toEqual(phases(clean.world));
      expect(outOfOrder(crashed.world.history), `crash before step ${step}`).toBeUndefined();
    }
  });
});

describe("stages with actions, in a process that dies between any two steps (pure)", () => {
  const acting = ["a", "c"];
  const wanted = ["r1", "r2"].flatMap((revision) =>
    acting.flatMap((stage) => ["pre stop", "pre drain", "post tell"].map((what) => `${stage} ${what} ${revision}`)),
  );

  test("[30.1] each action runs once for each revision, in its order", () => {
    const { acts, completed } = lifetime(new Set(), [], acting).world;
    expect(acts).toEqual(wanted);
    expect(completed).toBe(wanted.length);
  });

  test("[30.2] a crash at each step repeats at most what it interrupted, and ends in the same state", () => {
    const clean = lifetime(new Set(), ["a"], acting);
    for (let step = 0; step < clean.steps; step++) {
      const { deployed, world } = lifetime(new Set([step]), ["a"], acting);
      const shown = `crash before step ${step}`;
      expect([...new Set(world.acts)], shown).toEqual(wanted);
      expect(world.acts.length, shown).toBeLessThanOrEqual(wanted.length + 1);
      expect(world.completed, shown).toBe(wanted.length);
      expect(world.objects.size, shown).toBe(0);
      expect(outOfOrder(world.history), shown).toBeUndefined();
      const ledgers = (of: unknown): unknown => JSON.stringify(of).match(/"executedActions":[^\]]*/g);
      expect(ledgers(deployed), shown).toEqual(ledgers(clean.deployed));
    }
  });
});

describe("stages with Lifetime actions, in a process that dies between any two steps (pure)", () => {
  const acting = ["a", "c"];
  const anchor = { apiVersion: "v1", kind: "ConfigMap", name: "made" };
  const lists = {
    pre: [
      { name: "create", wait: {}, scope: "Lifetime", completionAnchor: anchor },
      { name: "drain", wait: {} },
    ],
    post: [{ name: "seed", wait: {}, scope: "Lifetime" }],
  } as const;
  const ofRevision = (revision: string, ...names: readonly string[]): readonly string[] =>
    acting.flatMap((stage) => names.map((name) => `${stage} ${name} ${revision}`));

  test("[30.6] each runs once for all revisions, and the ledger outlives the StageSet", () => {
    const { acts, ledger } = lifetime(new Set(), [], ["a"], lists).world;
    expect(acts).toEqual(["a pre create r1", "a pre drain r1", "a post seed r1", "a pre drain r2"]);
    expect(ledger?.status.completedActions).toMatchObject([
      { stage: "a", action: "create", origin: "Executed", anchor },
      { stage: "a", action: "seed", origin: "Executed" },
    ]);
    expect(ledger?.status.completedCount).toBe(2);
  });

  test("[30.6] [30.2] a crash at each step repeats at most what it interrupted, and nothing that is in the ledger", () => {
    const unanchored = {
      pre: lists.pre.map(({ name, wait, ...rest }) => ({
        name,
        wait,
        ...("scope" in rest ? { scope: rest.scope } : {}),
      })),
      post: lists.post,
    };
    const wanted = [...ofRevision("r1", "pre create", "pre drain", "post seed"), ...ofRevision("r2", "pre drain")];
    const clean = lifetime(new Set(), ["a"], acting, unanchored);
    for (let step = 0; step < clean.steps; step++) {
      const { world } = lifetime(new Set([step]), ["a"], acting, unanchored);
      const shown = `crash before step ${step}`;
      expect([...new Set(world.acts)], shown).toEqual(wanted);
      expect(world.acts.length, shown).toBeLessThanOrEqual(wanted.length + 1);
      expect(world.completed, shown).toBe(wanted.length);
      expect(outOfOrder(world.history), shown).toBeUndefined();
    }
  });

  test("[30.6] what another client records does not run, also before a watch has told of it", () => {
    const world = new World(releases, stages);
    world.spec = {
      stages: world.spec.stages.map((stage) => (stage.name === "a" ? { ...stage, actions: lists } : stage)),
    };
    const completion = {
      stage: "a",
      action: "create",
      origin: "Executed",
      completedAt: "2026-01-01T00:00:00Z",
    } as const;
    const empty = { uid: "l", resourceVersion: "1", baseline: [], status: {} };
    world.ledger = empty;
    world.newerLedger = {
      ...empty,
      resourceVersion: "2",
      status: { completedActions: [completion], completedCount: 1 },
    };
    while (world.acts.length === 0) if (world.step()) world.begin("wake");
    expect(world.acts).toEqual(["a pre drain r1"]);
  });

  test("[30.7] a witness that is another object makes a steady stage run its action once more", () => {
    const world = new World(releases, stages);
    world.spec = {
      stages: world.spec.stages.map((stage) => (stage.name === "c" ? { ...stage, actions: lists } : stage)),
    };
    runUntil(world, () => isDeployed(world), new Set(), { steps: 0 });
    const before = world.acts.length;
    world.witness = undefined;
    runUntil(world, () => world.acts.length > before && isDeployed(world) && isReady(world), new Set(), { steps: 0 });
    runUntil(world, () => isReady(world), new Set(), { steps: 0 });
    expect(world.acts.slice(before)).toEqual(["c pre create r1"]);
  });
});

describe("stages with Version actions, in a process that dies between any two steps (pure)", () => {
  const lists = {
    pre: [
      { name: "migrate", wait: {}, scope: "Version" },
      { name: "drain", wait: {} },
    ],
    post: [{ name: "announce", wait: {}, scope: "Version" }],
  } as const;

  test("[30.4] [30.5] the first version runs none, the next each once, and another revision alone none", () => {
    const adopted = ["c pre drain r1", "c pre migrate r2", "c pre drain r2", "c post announce r2"];
    expect(lifetime(new Set(), [], ["c"], lists, ["1.0.0", "1.1.0"]).world.acts).toEqual(adopted);
    expect(lifetime(new Set(), [], ["c"], lists, ["1.0.0", "v1.0"]).world.acts).toEqual([
      "c pre drain r1",
      "c pre drain r2",
    ]);
  });

  test("[30.4] [30.2] a crash at each step repeats at most what it interrupted", () => {
    const versions = ["1.0.0", "1.1.0"];
    const clean = lifetime(new Set(), [], ["a", "c"], lists, versions);
    const wanted = clean.world.acts;
    for (let step = 0; step < clean.steps; step++) {
      const { world } = lifetime(new Set([step]), [], ["a", "c"], lists, versions);
      const shown = `crash before step ${step}`;
      expect([...new Set(world.acts)], shown).toEqual(wanted);
      expect(world.acts.length, shown).toBeLessThanOrEqual(wanted.length + 1);
      expect(world.completed, shown).toBe(wanted.length);
    }
  });
});

function isReady(world: World): boolean {
  return world.status.stages?.every(({ phase }) => phase === "Ready") === true && world.memory.action === undefined;
}
