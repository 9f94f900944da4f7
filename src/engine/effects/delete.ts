import { deleteObjects, type DeleteOutcome } from "../../apply/delete-objects.ts";
import type { DeleteError, DeleteResult, PendingDelete, RecordedEntry, Results } from "../../domain/pass/state.ts";
import type { Effect } from "../../domain/pass/step.ts";
import { IdentityError, refusalOf } from "../../identity/identity-error.ts";
import { KubeError } from "../../kube/error.ts";
import type { Pass } from "../pass.ts";
import type { Engine } from "../engine.ts";
import { accessOf } from "../facts/connection.ts";

type DeleteEffect = Extract<Effect, { kind: "delete" }>;

/** Deletes what a stage recorded; what the first identity may not delete is tried once as the next. */
export async function runDelete(
  engine: Engine,
  pass: Pass,
  effect: DeleteEffect,
  signal: AbortSignal,
): Promise<Results> {
  const gone: string[] = [];
  let pending: PendingDelete[] = [];
  let errors: DeleteError[] = [];
  let left: readonly RecordedEntry[] = effect.entries;
  for (const identity of effect.as) {
    const outcomes = await deleteAs(engine, pass, { effect, identity, entries: left }, signal);
    errors = [];
    const retried: RecordedEntry[] = [];
    for (const [id, outcome] of outcomes) {
      switch (outcome.kind) {
        case "gone":
        case "released":
          gone.push(id);
          break;
        case "pending":
          pending = [...pending, { id, finalizers: outcome.finalizers }];
          break;
        case "failed":
          errors.push({ id, kind: outcome.class, message: outcome.message });
          retried.push(...left.filter((entry) => entry.id === id));
          break;
      }
    }
    left = retried.filter((entry) => errors.some((error) => error.id === entry.id && error.kind !== "other"));
    if (left.length === 0) break;
  }
  const result: DeleteResult = { stage: effect.stage, gone, pending, errors };
  return { ...pass.results, deletes: new Map(pass.results.deletes).set(effect.stage, result) };
}

async function deleteAs(
  engine: Engine,
  pass: Pass,
  work: {
    readonly effect: DeleteEffect;
    readonly identity: DeleteEffect["as"][number];
    readonly entries: readonly RecordedEntry[];
  },
  signal: AbortSignal,
): Promise<ReadonlyMap<string, DeleteOutcome>> {
  try {
    const access = await accessOf(engine, pass, work.identity, signal);
    await access.connect(signal);
    return await deleteObjects(work.entries, {
      access,
      owner: pass.key,
      purpose: work.effect.purpose,
      recordedElsewhere: (id) => engine.recordedElsewhere(pass.key, id),
      mayForget: engine.mayForget,
      signal,
      clock: engine.clock,
      random: engine.random,
      inFlight: 8,
    });
  } catch (error) {
    if (!(error instanceof KubeError) && !(error instanceof IdentityError)) throw error;
    const outcome: DeleteOutcome = { kind: "failed", class: refusalOf(error), message: error.message };
    return new Map(work.entries.map((entry) => [entry.id, outcome]));
  }
}
