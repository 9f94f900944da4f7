import type { StageSetSpec, StageSetStatus } from "../../src/api/stage-set.ts";
import type { ActionCall, ActionOutcome } from "../../src/domain/actions/action-run.ts";
import { checkStatus } from "../../src/domain/invariants.ts";
import { renderObjectId } from "../../src/domain/object-id.ts";
import { nextStep } from "../../src/domain/pass/next-step.ts";
import { missingRecord } from "../../src/domain/pass/records.ts";
import {
  emptyMemory,
  factName,
  type Fact,
  type FactKey,
  type Memory,
  type PassState,
  type RecordedStage,
  type Results,
} from "../../src/domain/pass/state.ts";
import type { Effect, PassEvent, Step, Write } from "../../src/domain/pass/step.ts";
import type { Pin } from "../../src/domain/pins.ts";
import { readyCondition } from "../../src/domain/status.ts";

const epoch = Date.parse("2026-03-01T10:00:00Z");

/** Steps and writes of a StageSet with versions, in memory: the driver's loop over `nextStep`, with crashes. */
export class MigrationWorld {
  /** In the order of effects: `up db idx/a`, `write db r2`, `pre db stop`. */
  readonly effects: string[] = [];
  readonly events: string[] = [];
  status: StageSetStatus = {};
  annotations: Record<string, string> = {};
  generation = 1;
  revision = "r1";
  /** Calls that fail, by what {@link effects} would have. */
  readonly failing = new Set<string>();
  /** How the failing ones do. */
  failure: Extract<ActionOutcome, { kind: "failed" }>["class"] = "ordinary";
  spec: StageSetSpec;
  /** Told of each status that is acknowledged. */
  onStatus: (status: StageSetStatus, before: StageSetStatus) => void = () => undefined;
  /** Told of each step of a migration that takes effect. */
  onStep: (call: ActionCall) => void = () => undefined;
  /** Told of each action that is run, however it ends. */
  onRun: (call: ActionCall) => void = () => undefined;
  steps = 0;
  /** Steps before which the process dies. */
  readonly crashes = new Set<number>();
  /** Undefined: the value of the version is that of the spec. */
  versionFile: ((revision: string) => string) | undefined;
  windowOpen = true;
  /** The one that `migrationsSourceRef` leads to. */
  ladder: Extract<Fact, { kind: "ladder" }> = { kind: "ladder", ladder: { rungs: [], origin: "" } };
  /** Of stages with a source of their own. */
  readonly ownRevisions = new Map<string, string>();
  /** Stages whose error budget is used up. */
  readonly heldStages = new Set<string>();
  #memory: Memory = emptyMemory;
  #facts = new Map<string, Fact>();
  #results: Results = noResults();
  #causes: PassState["causes"] = new Set();
  readonly #inventory = new Map<string, RecordedStage>();
  #hasFinalizer = false;
  #elapsed = 0;

  constructor(spec: StageSetSpec) {
    this.spec = spec;
  }

  edit(change: Partial<StageSetSpec>): void {
    this.spec = { ...this.spec, ...change };
    this.generation++;
  }

  /** The error budget of a stage is on record as used up. */
  freeze(stage: string): void {
    const budgetFreeze = { remaining: "0", freezeThreshold: "0.5", resumeThreshold: "0.5" };
    const stages = (this.status.stages ?? []).map((entry) =>
      entry.name === stage ? { ...entry, budgetFreeze } : entry,
    );
    this.status = { ...this.status, stages };
  }

  get ready(): string {
    const { status = "", reason = "" } = readyCondition(this.status) ?? {};
    return `${status} ${reason}`;
  }

  get message(): string {
    return readyCondition(this.status)?.message ?? "";
  }

  /** The process is gone, with all it remembers. */
  crash(): void {
    this.#memory = emptyMemory;
    this.#begin("start");
  }

  /** One pass, up to where it ends; an action that it starts runs to its end, and what follows is part of the pass. */
  pass(cause: "source" | "time" | "annotation" | "spec" | "start" = "source"): void {
    this.#begin(cause);
    for (let left = 2_000; left > 0; left--) {
      if (this.crashes.has(this.steps)) this.crash();
      this.steps++;
      const ended = this.#step();
      if (ended === "ended") return;
      if (ended === "parked") this.#begin(this.#endAction() ? "action" : "time");
    }
    throw new Error(`the pass does not end: ${JSON.stringify(this.status)}`);
  }

  #begin(cause: "source" | "time" | "annotation" | "spec" | "start" | "action"): void {
    this.#causes = new Set([cause]);
    this.#facts = new Map();
    this.#results = noResults();
    this.#elapsed += 600_000;
  }

  #endAction(): boolean {
    const { action } = this.#memory;
    if (action === undefined || action.outcome !== undefined) return false;
    const { call } = action;
    this.onRun(call);
    const shown = shownCall(call);
    const fails = this.failing.has(shown);
    const outcome: ActionOutcome = fails
      ? { kind: "failed", cause: "no", class: this.failure }
      : { kind: "completed", jobs: [] };
    if (!fails) {
      this.effects.push(shown);
      if (call.migration !== undefined) this.onStep(call);
    }
    this.#memory = { ...this.#memory, action: { call, outcome } };
    return true;
  }

  #step(): "goes on" | "parked" | "ended" {
    const state = this.#state();
    const step = nextStep(state);
    switch (step.kind) {
      case "need":
        for (const key of step.facts) this.#facts.set(factName(key), this.#fact(key));
        return "goes on";
      case "record":
        this.#record(step.write);
        this.#memory = { ...this.#memory, ...step.remember };
        this.#tell(step.events);
        return "goes on";
      case "do": {
        const missing = missingRecord(state.stored, step.requires);
        if (missing !== undefined) throw new Error(`effect refused: ${missing}`);
        this.#memory = { ...this.#memory, ...step.remember };
        this.#tell(step.events);
        this.#act(step.effect);
        return "goes on";
      }
      case "park":
        this.#memory = { ...this.#memory, ...step.remember };
        return "parked";
      case "end":
        this.#memory = { ...this.#memory, ...step.outcome.remember };
        this.#tell(step.outcome.events);
        return "ended";
    }
  }

  #tell(events: readonly PassEvent[] = []): void {
    for (const { type, reason, note } of events) this.events.push(`${type} ${reason}: ${note}`);
  }

  #record(write: Write): void {
    if (write.kind === "status") {
      checkStatus(write.status, this.generation);
      const before = this.status;
      this.status = write.status;
      this.onStatus(write.status, before);
    } else if (write.kind === "inventory") {
      for (const { stage, position, entries, serviceAccount } of [write, ...(write.ahead ?? [])])
        this.#inventory.set(stage, { stage, position, entries, shards: 1, target: undefined, serviceAccount });
    } else if (write.kind === "finalizer") this.#hasFinalizer = true;
  }

  #act(effect: Effect): void {
    if (effect.kind !== "apply") return;
    if (effect.mode === "changed") this.effects.push(`write ${effect.stage} ${effect.identity.revision}`);
    this.#results = {
      ...this.#results,
      stages: new Map(this.#results.stages).set(effect.stage, {
        identity: effect.identity,
        renderHash: effect.renderHash,
        wavesDone: effect.wave + 1,
        ...{ changed: [], unsettled: [], recreating: [], failure: undefined },
      }),
    };
  }

  #fact(key: FactKey): Fact {
    switch (key.kind) {
      case "pins":
        return {
          kind: "pins",
          pins: this.spec.stages.map(({ name }) => {
            const own = this.ownRevisions.get(name);
            return own === undefined ? pinOf("app", this.revision) : pinOf(name, own);
          }),
        };
      case "windows":
        return { kind: "windows", state: { open: this.windowOpen, changesAt: "never", validUntil: Infinity } };
      case "budget": {
        const value = key.stage !== undefined && this.heldStages.has(key.stage) ? 0 : 1;
        return { kind: "budget", reading: { answer: { kind: "value", value }, readAt: this.#elapsed } };
      }
      case "connection":
        return { kind: "connection" };
      case "render": {
        const hash = `${key.stage} ${key.identity.revision}`;
        const objects = [rendered(key.stage)];
        return {
          kind: "render",
          render: { kind: "rendered", objects, hash, substitutionDigest: "", provisional: false },
        };
      }
      case "ladder":
        return this.ladder;
      case "versionFile": {
        const text = this.versionFile?.(key.identity.revision);
        return {
          kind: "versionFile",
          reading: text === undefined ? { kind: "unobtainable" } : { kind: "text", text },
        };
      }
      case "images":
        throw new Error("no object has images");
      case "preflight":
        return { kind: "preflight", refusal: undefined };
      case "readiness":
      case "health":
        return { kind: key.kind, readiness: { kind: "ready" } };
      case "gateMetrics":
        return { kind: "gateMetrics", metrics: { analysis: undefined, fastTrack: undefined } };
      case "pods":
        return { kind: "pods", readings: undefined };
      case "recovery":
        return { kind: "recovery", found: new Map(), unlisted: [] };
      case "expressions":
        return { kind: "expressions", invalid: undefined };
      case "dependencies":
        return { kind: "dependencies", unmet: undefined };
      case "ledger":
        return { kind: "ledger" };
      case "witness":
        return { kind: "witness", found: { kind: "absent" } };
      case "namespace":
        return { kind: "namespace", terminating: false };
    }
  }

  #state(): PassState {
    const { spec, status, generation, annotations } = this;
    return {
      snapshot: {
        ...{ namespace: "ns", name: "ss", uid: "u", generation, annotations, spec },
        ...{ deletedAt: undefined, invalid: undefined, stored: status },
      },
      stored: { generation, hasFinalizer: this.#hasFinalizer, status, inventory: this.#inventory, ledger: undefined },
      facts: this.#facts,
      results: this.#results,
      memory: this.#memory,
      causes: this.#causes,
      options: {
        defaultIntervalMs: 600_000,
        crossNamespace: "allowed",
        requireServiceAccount: false,
        defaultServiceAccount: "sa",
        maxTeardownWaitMs: 0,
        breakGlass: "off",
        runbookLink: (reason) => `https://runbooks.example/${reason.toLowerCase()}`,
      },
      now: epoch + this.#elapsed,
      elapsed: this.#elapsed,
    };
  }
}

/** What runs, as {@link MigrationWorld.effects} has it. */
export function shownCall({ list, stage, action, migration }: ActionCall): string {
  const name = migration === undefined ? action.name : `${migration.key.split("@")[0] ?? ""}/${action.name}`;
  return `${list} ${stage} ${name}`;
}

function noResults(): Results {
  return { stages: new Map(), deletes: new Map(), recordFailure: undefined };
}

function pinOf(name: string, revision: string): Pin {
  return {
    ...{ namespace: "ns", name, kind: "ExternalArtifact", revision, digest: `sha256:${revision}` },
    ...{ url: "http://x", foreign: false, foreignSentence: "" },
  };
}

function rendered(name: string) {
  const id = { group: "", kind: "ConfigMap", namespace: "ns", name };
  return {
    ...{ ...id, id: renderObjectId(id), version: "v1", hash: name, body: new Uint8Array(), helmHook: false },
    controls: {
      ...({ prune: "enabled", force: false, keepExisting: false, reconcile: "enabled", ignored: [] } as const),
    },
  };
}

export type { Step };
