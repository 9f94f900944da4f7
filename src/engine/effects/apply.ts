import {
  applyWave,
  type AppliedObject,
  type ApplyOutcome,
  type Fingerprint,
  type Look,
  type WaveObject,
} from "../../apply/apply-wave.ts";
import { mayGuideAdmission } from "../../domain/admission-inputs.ts";
import { stageFailure, type Failure } from "../../domain/failure.ts";
import { describeObject } from "../../domain/object-id.ts";
import type { Results, StageResult, Waiting } from "../../domain/pass/state.ts";
import type { Effect } from "../../domain/pass/step.ts";
import type { RenderedObject } from "../../domain/rendered.ts";
import { planWaves } from "../../domain/waves.ts";
import { IdentityError, isDenied } from "../../identity/identity-error.ts";
import { KubeError } from "../../kube/error.ts";
import { requestsPerPass, type Pass } from "../pass.ts";
import type { Engine } from "../engine.ts";
import { noteDrift } from "../contest.ts";
import { accessOf } from "../facts/connection.ts";
import { expressedKinds } from "../facts/readiness.ts";
import { describeRefusals } from "../refusal.ts";
import { sayHooks, sayIgnoredControls } from "./object-notes.ts";

type ApplyEffect = Extract<Effect, { kind: "apply" }>;

/** How long a dry run of the preflight counts as the one that goes before the write (spec 20 §6.2). */
const lookKeptMs = 10_000;

/** Applies one wave of a stage as the stage's identity. */
export async function runApply(engine: Engine, pass: Pass, effect: ApplyEffect, signal: AbortSignal): Promise<Results> {
  const unjudged = effect.objects.find(({ images = [], hash }) => images.length > 0 && !pass.judged.has(hash));
  if (unjudged !== undefined)
    throw new Error(`refused to apply ${describeObject(unjudged)}: nobody judged its images in this pass`);
  const started = engine.clock.monotonic();
  const outcome = await applied(engine, pass, effect, signal);
  if ("reason" in outcome) return withResult(pass, effect, { failure: outcome });
  const access = await accessOf(engine, pass, effect.as, signal);
  const prints = pass.session.fingerprints.get(effect.stage) ?? new Map<string, Fingerprint>();
  const stage = pass.snapshot.spec?.stages.find((each) => each.name === effect.stage);
  const expressed: ReadonlySet<string> = stage === undefined ? new Set() : expressedKinds(stage);
  const outcomes = new Map(outcome.applied.map((each) => [each.id, each]));
  for (const object of effect.objects) {
    const done = outcomes.get(object.id);
    if (done === undefined) {
      prints.delete(object.id);
      continue;
    }
    if (done.change === "skipped") continue;
    if (effect.mode !== "changed") noteDrift(engine, pass, { stage: effect.stage, object, done, access });
    if (done.change === "vouched") continue;
    // What is left alone by request cannot be told from drift.
    if (done.fingerprint === undefined) prints.delete(object.id);
    else prints.set(object.id, done.fingerprint);
    const keep = expressed.has(`${object.group}/${object.kind}`);
    engine.observer.note(pass.key, access, { id: object, object: done.live, keep, since: started });
  }
  pass.session.fingerprints.set(effect.stage, prints);
  forgetLooks(pass, effect, outcome.applied);
  sayIgnoredControls(pass, effect);
  if (effect.mode === "changed") sayHooks(pass, effect);
  const written = outcome.applied.filter(({ change }) => isWritten(change));
  const drifted = written.filter((each) => !isRecreated(pass, effect.stage, each));
  for (const { id } of outcome.recreating) pass.session.recreating.add(`${effect.stage} ${id}`);
  for (const { id } of written) pass.session.recreating.delete(`${effect.stage} ${id}`);
  if (effect.mode !== "changed" && drifted.length > 0)
    pass.report.drift(
      effect.stage,
      drifted.map((each) => driftOf(effect, each)),
    );
  return withResult(pass, effect, {
    failure: describeRefusals(effect.stage, outcome.failures),
    changed: written.map((each) => each.id),
    recreating: outcome.recreating,
    unsettled: unsettled(engine, pass, { effect, access }),
  });
}

/** What the preflight found of an object, while it is to be taken for true. */
function lookedAhead(
  engine: Engine,
  pass: Pass,
  { stage, object }: { readonly stage: string; readonly object: RenderedObject },
): Look | undefined {
  const ahead = pass.looksAhead.get(stage)?.get(object.id);
  if (ahead === undefined || ahead.hash !== object.hash) return undefined;
  return engine.clock.monotonic() - ahead.lookedAt < lookKeptMs ? ahead.look : undefined;
}

/** Each look counts once, and none after a write that admission may go by. */
function forgetLooks(pass: Pass, effect: ApplyEffect, applied: readonly AppliedObject[]): void {
  const written = new Set(applied.filter(({ change }) => isWritten(change)).map(({ id }) => id));
  if (effect.objects.some((object) => written.has(object.id) && mayGuideAdmission(object))) pass.looksAhead.clear();
  const ahead = pass.looksAhead.get(effect.stage);
  for (const object of effect.objects) ahead?.delete(object.id);
}

async function applied(
  engine: Engine,
  pass: Pass,
  effect: ApplyEffect,
  signal: AbortSignal,
): Promise<ApplyOutcome | Failure> {
  const stage = pass.snapshot.spec?.stages.find((candidate) => candidate.name === effect.stage);
  const known = pass.session.fingerprints.get(effect.stage);
  const wave = planWaves(effect.objects)[0] ?? [];
  try {
    const access = await accessOf(engine, pass, effect.as, signal);
    const waveObject = (object: RenderedObject): WaveObject => {
      const print = effect.mode === "audit" ? undefined : known?.get(object.id);
      return {
        object,
        known: print,
        looked: effect.mode === "changed" ? lookedAhead(engine, pass, { stage: effect.stage, object }) : undefined,
        vouched: print !== undefined && engine.observer.vouches(pass.key, access, { id: object, print }),
      };
    };
    return await applyWave(
      wave.map((rank) => rank.map(waveObject)),
      {
        access,
        policy: { conflictPolicy: stage?.conflictPolicy, force: stage?.force ?? false },
        owner: pass.key,
        mode: effect.mode === "changed" ? "changed" : "steady",
        signal,
        clock: engine.clock,
        random: engine.random,
        inFlight: requestsPerPass,
      },
    );
  } catch (error) {
    if (!(error instanceof KubeError) && !(error instanceof IdentityError)) throw error;
    return stageFailure(
      { name: effect.stage, operation: "apply", cause: error.message },
      isDenied(error) ? "authorization" : "ordinary",
    );
  }
}

/** Objects of the first two waves, which others build on, that are not Current yet. */
function unsettled(
  engine: Engine,
  pass: Pass,
  { effect, access }: { readonly effect: ApplyEffect; readonly access: Parameters<Engine["observer"]["get"]>[1] },
): readonly Waiting[] {
  const all = pass.facts;
  const render = [...all.values()].find(
    (fact) => fact.kind === "render" && fact.render.kind === "rendered" && fact.render.hash === effect.renderHash,
  );
  const waves =
    render?.kind === "render" && render.render.kind === "rendered" ? planWaves(render.render.objects).length : 1;
  if (effect.wave >= waves - 1) return [];
  return effect.objects.flatMap((object) => {
    const seen = engine.observer.get(pass.key, access, object);
    if (seen === undefined || seen.readiness.status === "Current") return [];
    const { kind, namespace, name } = object;
    return [{ kind, namespace, name, status: seen.readiness.status, message: seen.readiness.message }];
  });
}

function withResult(
  pass: Pass,
  effect: ApplyEffect,
  done: {
    readonly failure: Failure | undefined;
    readonly changed?: readonly string[];
    readonly recreating?: StageResult["recreating"];
    readonly unsettled?: readonly Waiting[];
  },
): Results {
  const before = pass.results.stages.get(effect.stage);
  const continued = before?.renderHash === effect.renderHash ? before : undefined;
  const accepted = done.failure === undefined && (done.recreating ?? []).length === 0;
  const result: StageResult = {
    identity: effect.identity,
    renderHash: effect.renderHash,
    wavesDone: accepted ? effect.wave + 1 : effect.wave,
    changed: [...(continued?.changed ?? []), ...(done.changed ?? [])],
    recreating: done.recreating ?? [],
    unsettled: done.unsettled ?? [],
    failure: done.failure,
  };
  return { ...pass.results, stages: new Map(pass.results.stages).set(effect.stage, result) };
}

function isWritten(change: AppliedObject["change"]): boolean {
  return change === "created" || change === "configured" || change === "recreated";
}

/** The controller itself deleted it, in this pass or, held by finalizers, in one before: no drift (spec 20 §6.7). */
function isRecreated(pass: Pass, stage: string, { id, change }: AppliedObject): boolean {
  return change === "recreated" || pass.session.recreating.has(`${stage} ${id}`);
}

/** The object, and who else claims it (spec 20 §14). */
function driftOf(effect: ApplyEffect, { id, takenFrom }: AppliedObject): string {
  const object = effect.objects.find((each) => each.id === id);
  const name = object === undefined ? id : describeObject(object);
  return takenFrom === undefined
    ? name
    : `${name} (also applied by StageSet "${takenFrom.namespace}/${takenFrom.name}")`;
}
