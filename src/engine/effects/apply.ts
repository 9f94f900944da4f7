import { applyWave, type ApplyOutcome, type Fingerprint, type ObjectFailure } from "../../apply/apply-wave.ts";
import { stageFailure, type Failure } from "../../domain/failure.ts";
import { describeObject } from "../../domain/object-id.ts";
import type { Results, StageResult, Waiting } from "../../domain/pass/state.ts";
import type { Effect } from "../../domain/pass/step.ts";
import { planWaves } from "../../domain/waves.ts";
import { IdentityError, isDenied } from "../../identity/identity-error.ts";
import { KubeError } from "../../kube/error.ts";
import type { Pass } from "../pass.ts";
import type { Engine } from "../engine.ts";
import { accessOf } from "../facts/connection.ts";
import { sayHooks, sayIgnoredControls } from "./object-notes.ts";

type ApplyEffect = Extract<Effect, { kind: "apply" }>;

/** Requests of one pass in flight (spec 20 §13). */
const inFlight = 8;
/** Failing objects named in a message (spec 20 §6.2). */
const mostNamed = 10;

/** Applies one wave of a stage as the stage's identity. */
export async function runApply(engine: Engine, pass: Pass, effect: ApplyEffect, signal: AbortSignal): Promise<Results> {
  const started = engine.clock.monotonic();
  const outcome = await applied(engine, pass, effect, signal);
  engine.reports.phase("apply", (engine.clock.monotonic() - started) / 1_000);
  if ("reason" in outcome) return withResult(pass, effect, { failure: outcome });
  const access = await accessOf(engine, pass.key.namespace, effect.as, signal);
  const prints = pass.session.fingerprints.get(effect.stage) ?? new Map<string, Fingerprint>();
  const expressed = expressedKinds(pass, effect.stage);
  for (const object of effect.objects) {
    const done = outcome.applied.find((each) => each.id === object.id);
    if (done === undefined) {
      prints.delete(object.id);
      continue;
    }
    if (done.change === "skipped") continue;
    if (done.fingerprint !== undefined) prints.set(object.id, done.fingerprint);
    engine.observer.note(pass.key, access, object, done.live, expressed.has(`${object.group}/${object.kind}`));
  }
  pass.session.fingerprints.set(effect.stage, prints);
  sayIgnoredControls(pass, effect);
  if (effect.mode === "changed") sayHooks(pass, effect);
  const changed = outcome.applied.filter((each) => each.change === "created" || each.change === "configured");
  if (effect.mode === "steady" && changed.length > 0)
    pass.report.drift(
      effect.stage,
      changed.map((each) => nameOf(effect, each.id)),
    );
  return withResult(pass, effect, {
    failure: failureOf(effect.stage, outcome.failures),
    changed: changed.map((each) => each.id),
    recreating: outcome.recreating,
    unsettled: unsettled(engine, pass, { effect, access }),
  });
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
    const access = await accessOf(engine, pass.key.namespace, effect.as, signal);
    return await applyWave(
      wave.map((rank) => rank.map((object) => ({ object, known: known?.get(object.id) }))),
      {
        access,
        policy: { conflictPolicy: stage?.conflictPolicy, force: stage?.force ?? false },
        signal,
        clock: engine.clock,
        random: engine.random,
        inFlight,
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
    readonly recreating?: readonly string[];
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

/** All failures of a wave in one message, the first ten named. */
function failureOf(stage: string, failures: readonly ObjectFailure[]): Failure | undefined {
  const first = failures[0];
  if (first === undefined) return undefined;
  const named = failures.slice(0, mostNamed).map((each) => each.message);
  const cause =
    failures.length > mostNamed ? `${named.join("; ")}; ${failures.length} objects failed` : named.join("; ");
  const refused = failures.find((each) => each.class === "authorization" || each.class === "notServed");
  return stageFailure(
    { name: stage, operation: first.op, cause },
    refused === undefined ? "ordinary" : "authorization",
  );
}

function expressedKinds(pass: Pass, stage: string): ReadonlySet<string> {
  const rules = pass.snapshot.spec?.stages.find((each) => each.name === stage)?.readyChecks?.exprs ?? [];
  return new Set(
    rules.map((rule) => {
      const slash = rule.apiVersion.indexOf("/");
      return `${slash < 0 ? "" : rule.apiVersion.slice(0, slash)}/${rule.kind}`;
    }),
  );
}

function nameOf(effect: ApplyEffect, id: string): string {
  const object = effect.objects.find((each) => each.id === id);
  return object === undefined ? id : describeObject(object);
}
