import type { Fingerprint } from "../apply/fingerprint.ts";
import { stageIdentity } from "../domain/pass/plan.ts";
import type { Identity } from "../domain/pass/state.ts";
import type { Outcome, Wake } from "../domain/pass/step.ts";
import type { RenderedObject } from "../domain/rendered.ts";
import type { Access } from "../identity/access.ts";
import type { ApiResource } from "../kube/request.ts";
import type { Engine } from "./engine.ts";
import { accessOf } from "./facts/connection.ts";
import { expressedKinds, followedOf, isAlwaysCurrent } from "./facts/readiness.ts";
import type { StageWatch } from "./observer.ts";
import type { Explained } from "./pod-causes.ts";
import type { Pass } from "./pass.ts";
import type { Guarded } from "./slot.ts";

/**
 * Hands what a pass waits for, and at its end what it left as it should be, to the observer; gives the earliest time to
 * look again, monotonic ms.
 */
export async function followWakes(
  engine: Engine,
  pass: Pass,
  end: { readonly wakes: readonly Wake[]; /** Undefined: parked. */ readonly outcome: Outcome | undefined },
  signal: AbortSignal,
): Promise<number | undefined> {
  const stages: StageWatch[] = [];
  const explained: Explained[] = [];
  let earliest: number | undefined;
  for (const wake of end.wakes) {
    if (wake.kind === "at") {
      earliest = Math.min(earliest ?? Infinity, wake.elapsed);
      continue;
    }
    const looked = pass.looked.get(wake.stage);
    if (looked === undefined) continue;
    const { access, awaited, lookedAt } = looked;
    explained.push(...looked.explained);
    const { followed, poll } = await followedOf(engine, { key: pass.key, awaited, access }, signal);
    const shared = isShared(engine, pass, wake.as);
    stages.push({ key: pass.key, stage: wake.stage, access, followed, shared, poll, lookedAt });
  }
  const guarded = end.outcome === undefined ? undefined : await guardedOf(engine, pass, end.outcome, signal);
  engine.observer.follow(pass.key, { stages, guarded });
  engine.podCauses.follow(pass.key, explained);
  return earliest;
}

/** Everything goes on being followed and guarded as it was before the pass; gives the earliest time to look again. */
export function resumeWatches(engine: Engine, pass: Pass, wakes: readonly Wake[]): number | undefined {
  engine.observer.resume(pass.key);
  const times = wakes.flatMap((wake) => (wake.kind === "at" ? [wake.elapsed] : []));
  return times.length === 0 ? undefined : Math.min(...times);
}

/** One watch serves every StageSet of the namespace that acts as this identity. */
function isShared(engine: Engine, pass: Pass, as: Identity): boolean {
  return as.kind === "controller" || engine.sharers(pass.key.namespace, as.name) > 1;
}

/** What a pass verified, and so left as it should be; nothing while something is still to be done. */
async function guardedOf(
  engine: Engine,
  pass: Pass,
  outcome: Outcome,
  signal: AbortSignal,
): Promise<readonly Guarded[]> {
  const { spec } = pass.snapshot;
  if (spec === undefined || outcome.failure !== undefined) return [];
  const guarded: Guarded[] = [];
  const resources = new Map<string, ApiResource | undefined>();
  for (const stage of spec.stages) {
    const prints = pass.session.fingerprints.get(stage.name);
    const objects = renderedBy(pass, stage.name);
    if (!outcome.verified.includes(stage.name) || prints === undefined || objects === undefined) continue;
    forgetDropped(prints, objects);
    const as = stageIdentity(spec, stage, engine.options.defaultServiceAccount);
    const access = await accessOf(engine, pass, as, signal);
    const shared = isShared(engine, pass, as);
    const expressed = expressedKinds(stage);
    for (const object of objects) {
      const print = prints.get(object.id);
      // A finished Job that the cluster removes is no drift (spec 20 §14).
      if (print?.hash !== object.hash || object.expires === true) continue;
      const resource = await servedAs(access, resources, object, signal);
      if (resource === undefined) continue;
      const { group, kind, namespace, name } = object;
      const metadataOnly = isAlwaysCurrent(object) && !expressed.has(`${group}/${kind}`);
      guarded.push({ id: { group, kind, namespace, name }, resource, access, print, metadataOnly, shared });
    }
  }
  return guarded;
}

function renderedBy(pass: Pass, stage: string): readonly RenderedObject[] | undefined {
  let found: readonly RenderedObject[] | undefined;
  // What was read at the stage's turn comes after what the preflight read.
  for (const [name, fact] of pass.facts)
    if (fact.kind === "render" && fact.render.kind === "rendered" && name.split(" ")[2] === stage)
      found = fact.render.objects;
  return found;
}

function forgetDropped(prints: Map<string, Fingerprint>, objects: readonly RenderedObject[]): void {
  if (prints.size === objects.length) return;
  const rendered = new Set(objects.map((object) => object.id));
  for (const id of prints.keys()) if (!rendered.has(id)) prints.delete(id);
}

async function servedAs(
  access: Access,
  known: Map<string, ApiResource | undefined>,
  { group, kind, version }: RenderedObject,
  signal: AbortSignal,
): Promise<ApiResource | undefined> {
  const name = `${access.client.cluster} ${group}/${version}/${kind}`;
  if (known.has(name)) return known.get(name);
  const resource = await access.discovery.find({ group, kind, version }, { signal });
  known.set(name, resource);
  return resource;
}
