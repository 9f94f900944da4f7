import { describe, expect, test } from "vitest";
import type { StageSetSpec, StageSetStatus } from "../../api/stage-set.ts";
import type { GoalInput } from "../holds/hold.ts";
import { pinsHash } from "../holds/override.ts";
import type { MetricAnswer } from "../metrics/metric-answer.ts";
import type { Pin } from "../pins.ts";
import { budgetStep } from "./budget-step.ts";
import { planGoals } from "./goals.ts";
import { emptyMemory, type Fact, type Memory, type PassState } from "./state.ts";

const now = Date.parse("2026-03-01T10:00:00Z");
const interval = 600_000;
const source = { webhook: { url: "http://slo/", jsonPath: "{.left}" } };
const budget = { source, freezeThreshold: "0", resumeThreshold: "0.05" };
const error: MetricAnswer = { kind: "sourceError", problem: "the server answered 404, want 2xx" };
const value = (number: number): MetricAnswer => ({ kind: "value", value: number });
const pinOf = (revision: string): Pin => ({
  namespace: "ns",
  name: "app",
  kind: "ExternalArtifact",
  revision,
  digest: `sha256:${revision}`,
  url: "http://artifacts/",
  foreign: false,
  foreignSentence: "",
});
const at = (name: string, revision: string) => ({
  name,
  phase: "Ready" as const,
  enteredRevision: revision,
  enteredDigest: `sha256:${revision}`,
  appliedRevision: revision,
  appliedDigest: `sha256:${revision}`,
});

/** A StageSet of two stages, deployed at r1, to which r2 is offered; passes over it until nothing is to be recorded. */
class World {
  status: StageSetStatus = { observedGeneration: 1, stages: [at("one", "r1"), at("two", "r1")] };
  memory: Memory = emptyMemory;
  annotations: Readonly<Record<string, string>> = {};
  revision = "r2";
  elapsed = 0;
  windowOpen = true;
  spec: StageSetSpec;
  /** Undefined: still being asked. */
  readonly answers = new Map<string, MetricAnswer | undefined>();
  asked: (string | undefined)[] = [];
  statusWrites = 0;

  constructor(spec: { readonly release?: boolean; readonly stage?: boolean }) {
    const stages = ["one", "two"].map((name) => ({ name, sourceRef: { name: "app" } }));
    const [one, two] = stages;
    this.spec = {
      stages: [one ?? stages[0], { ...two, ...(spec.stage === true ? { errorBudget: budget } : {}) }] as never,
      ...(spec.release === true ? { errorBudget: budget } : {}),
    };
  }

  /** What one pass comes to: the modes of the stages, and why one is held; `parked` while nothing is known. */
  pass(): string {
    const facts = new Map<string, Fact>();
    this.asked = [];
    this.elapsed += interval;
    for (let steps = 0; steps < 20; steps++) {
      const pins = this.spec.stages.map(() => pinOf(this.revision));
      const windows = this.windowOpen
        ? undefined
        : ({ open: false, changesAt: "never", validUntil: Infinity } as const);
      const { status, spec } = this;
      const input: GoalInput = {
        key: { namespace: "ns", name: "ss" },
        spec,
        status,
        generation: 1,
        pins,
        windows,
        budgets: undefined,
        versionHold: undefined,
        now,
        retryMs: interval,
        intervalMs: interval,
        ledger: undefined,
        version: undefined,
      };
      const step = budgetStep(this.#state(facts), input, planGoals(input));
      if (step.kind === "budgets") {
        const { stages, hold } = step.goals;
        return [...stages.map(({ mode }) => mode), hold?.reason ?? "-"].join(" ");
      }
      if (step.kind === "park") return "parked";
      if (step.kind === "need")
        for (const key of step.facts) {
          if (key.kind !== "budget") throw new Error(`what for is ${key.kind} needed?`);
          this.asked.push(key.stage);
          const answer = this.answers.get(key.stage ?? "");
          const reading = answer === undefined ? undefined : { answer, readAt: this.elapsed };
          facts.set(key.stage === undefined ? "budget" : `budget ${key.stage}`, { kind: "budget", reading });
        }
      if (step.kind === "record" && step.write.kind === "status") {
        this.status = step.write.status;
        this.statusWrites++;
        this.memory = { ...this.memory, ...step.remember };
      }
    }
    throw new Error("the pass does not end");
  }

  freezeOf(stage: string) {
    return this.status.stages?.find(({ name }) => name === stage)?.budgetFreeze;
  }

  #state(facts: ReadonlyMap<string, Fact>): PassState {
    return {
      snapshot: {
        namespace: "ns",
        name: "ss",
        uid: "u",
        generation: 1,
        deletedAt: undefined,
        annotations: this.annotations,
        spec: this.spec,
        invalid: undefined,
        stored: this.status,
      },
      stored: { generation: 1, hasFinalizer: true, status: this.status, inventory: new Map(), ledger: undefined },
      facts,
      results: { stages: new Map(), deletes: new Map(), recordFailure: undefined },
      memory: this.memory,
      causes: new Set(),
      options: {
        defaultIntervalMs: interval,
        crossNamespace: "allowed",
        requireServiceAccount: false,
        defaultServiceAccount: undefined,
        maxTeardownWaitMs: 0,
        breakGlass: "off",
        runbookLink: () => undefined,
      },
      now,
      elapsed: this.elapsed,
    };
  }
}

const frozen = (): World => {
  const world = new World({ release: true });
  world.answers.set("", value(-1));
  expect(world.pass()).toBe("keep keep BudgetExhausted");
  return world;
};
const overrideWith = (world: World, token: string): void => {
  world.annotations = { "stages.metio.wtf/budget-override": token };
};

describe("a rollout-wide budget", () => {
  test("[40.6] while it is frozen no stage enters, and the freeze is on record", () => {
    const world = frozen();
    expect(world.status.budgetFreeze).toMatchObject({ remaining: "-1", since: "2026-03-01T10:00:00Z" });
    world.answers.set("", value(0.03));
    expect(world.pass()).toBe("keep keep BudgetExhausted");
    world.answers.set("", value(0.05));
    expect(world.pass()).toBe("enter enter -");
    expect(world.status.budgetFreeze).toBeUndefined();
  });

  test("nothing is decided while its source is being asked", () => {
    const world = new World({ release: true });
    expect(world.pass()).toBe("parked");
    expect(world.statusWrites).toBe(0);
  });

  test("it is not asked when nothing enters; a freeze of a withdrawn revision goes", () => {
    const world = frozen();
    world.revision = "r1";
    expect(world.pass()).toBe("keep keep -");
    expect(world.asked).toEqual([]);
    expect(world.status.budgetFreeze).toBeUndefined();
  });

  test("it is not asked while a window holds, and keeps its freeze and its token", () => {
    const world = frozen();
    overrideWith(world, "t");
    world.windowOpen = false;
    expect(world.pass()).toBe("keep keep UpdateDeferred");
    expect(world.asked).toEqual([]);
    expect(world.status.budgetFreeze).toBeDefined();
    expect(world.status.lastHandledBudgetOverride).toBeUndefined();
  });

  test("[40.7] failed queries count once each, however often they are looked at: two keep a freeze, three open it", () => {
    const world = frozen();
    world.answers.set("", error);
    expect(world.pass()).toBe("keep keep BudgetExhausted");
    expect(world.status.budgetFreeze?.sourceErrors).toBe(1);
    // Another pass that is given the same reading.
    world.elapsed -= interval;
    expect(world.pass()).toBe("keep keep BudgetExhausted");
    expect(world.status.budgetFreeze?.sourceErrors).toBe(1);
    expect(world.pass()).toBe("keep keep BudgetExhausted");
    expect(world.pass()).toBe("enter enter -");
    expect(world.status.budgetFreeze).toBeUndefined();
  });

  test("a budget that is removed takes its freeze along", () => {
    const world = frozen();
    const { errorBudget: _removed, ...spec } = world.spec;
    world.spec = spec;
    expect(world.pass()).toBe("enter enter -");
    expect(world.status.budgetFreeze).toBeUndefined();
  });
});

describe("a budget-override", () => {
  test("[40.8] lets these pins through without asking again, once", () => {
    const world = frozen();
    overrideWith(world, "t");
    expect(world.pass()).toBe("enter enter -");
    expect(world.asked).toEqual([]);
    expect(world.status).toMatchObject({ lastHandledBudgetOverride: "t" });
    expect(world.status.budgetOverrideFor).toBe(pinsHash(world.spec.stages, [pinOf("r2"), pinOf("r2")]));
    expect(world.status.budgetFreeze).toBeUndefined();
    expect(world.pass(), "a retry").toBe("enter enter -");
    world.revision = "r3";
    expect(world.pass()).toBe("keep keep BudgetExhausted");
    expect(world.status.budgetOverrideFor).toBeUndefined();
    expect(world.pass()).toBe("keep keep BudgetExhausted");
    overrideWith(world, "t2");
    expect(world.pass()).toBe("enter enter -");
  });

  test("one that comes together with the revision releases it when its budget would hold it", () => {
    const world = new World({ release: true });
    world.answers.set("", value(-1));
    overrideWith(world, "t");
    expect(world.pass()).toBe("enter enter -");
    expect(world.asked).toEqual([undefined]);
    expect(world.status.budgetOverrideFor).toBeDefined();
  });

  test.each([
    ["nothing is held", value(1), "r2"],
    ["nothing is offered", value(-1), "r1"],
  ])("is used up when %s", (_when, answer, revision) => {
    const world = new World({ release: true });
    world.answers.set("", answer);
    world.revision = revision;
    overrideWith(world, "t");
    world.pass();
    expect(world.status.lastHandledBudgetOverride).toBe("t");
    expect(world.status.budgetOverrideFor).toBeUndefined();
    world.revision = "r3";
    world.answers.set("", value(-1));
    expect(world.pass()).toBe("keep keep BudgetExhausted");
  });

  test("is used up by a StageSet without budgets too", () => {
    const world = new World({});
    overrideWith(world, "t");
    expect(world.pass()).toBe("enter enter -");
    expect(world.status.lastHandledBudgetOverride).toBe("t");
  });
});

describe("a rollout-wide budget while an earlier stage soaks", () => {
  const soaking = (answer: MetricAnswer): World => {
    const world = new World({ release: true });
    const [one, two] = world.spec.stages;
    world.spec = { ...world.spec, stages: [{ ...one, promotion: { soak: "1h" } }, two] as never };
    const promotionState = { phase: "Soaking" as const, revision: "r2", digest: "sha256:r2" };
    world.status = { ...world.status, stages: [{ ...at("one", "r2"), promotionState }, at("two", "r1")] };
    world.answers.set("", answer);
    return world;
  };

  test("is asked, and gives the reason while it holds: its step comes first", () => {
    expect(soaking(value(1)).pass()).toBe("keep keep Soaking");
    const world = soaking(value(-1));
    expect(world.pass()).toBe("keep keep BudgetExhausted");
    overrideWith(world, "t");
    expect(world.pass()).toBe("keep keep Soaking");
    expect(world.status.budgetOverrideFor).toBeDefined();
  });
});

describe("a stage's budget", () => {
  test("[40.8] is asked when the stage's turn has come; the stages before it go on", () => {
    const world = new World({ stage: true });
    world.answers.set("two", value(-1));
    expect(world.pass()).toBe("enter enter -");
    expect(world.asked).toEqual([]);
    world.status = { ...world.status, stages: [at("one", "r2"), at("two", "r1")] };
    expect(world.pass()).toBe("keep keep BudgetExhausted");
    expect(world.asked).toEqual(["two"]);
    expect(world.freezeOf("two")).toMatchObject({ remaining: "-1" });
    expect(world.status.budgetFreeze).toBeUndefined();
  });

  test("a freeze on record holds it while a newer revision goes through the stages before it, without a question", () => {
    const world = new World({ stage: true });
    world.answers.set("two", value(-1));
    world.status = { ...world.status, stages: [at("one", "r2"), at("two", "r1")] };
    world.pass();
    world.revision = "r3";
    expect(world.pass()).toBe("enter keep BudgetExhausted");
    expect(world.asked).toEqual([]);
    overrideWith(world, "t");
    expect(world.pass()).toBe("enter enter -");
  });

  test("is not asked while the rollout-wide one holds", () => {
    const world = new World({ release: true, stage: true });
    world.answers.set("", value(-1));
    world.status = { ...world.status, stages: [at("one", "r2"), at("two", "r1")] };
    expect(world.pass()).toBe("keep keep BudgetExhausted");
    expect(world.asked).toEqual([undefined]);
  });
});
