import type { ObjectFailure } from "../../apply/apply-wave.ts";
import { preflightObjects, type ObjectsPreflight } from "../../apply/preflight-objects.ts";
import type { Stage } from "../../api/stage-set.ts";
import { mayMendManifests } from "../../domain/admission-inputs.ts";
import { describeObject } from "../../domain/object-id.ts";
import type { Fact, FactKey } from "../../domain/pass/state.ts";
import type { RenderedObject } from "../../domain/rendered.ts";
import { applyOrder } from "../../domain/waves.ts";
import { IdentityError } from "../../identity/identity-error.ts";
import { KubeError } from "../../kube/error.ts";
import type { Engine } from "../engine.ts";
import { requestsPerPass, type Pass } from "../pass.ts";
import { describeRefusals } from "../refusal.ts";
import { accessOf } from "./connection.ts";
import { definedKinds } from "./scopes.ts";

type PreflightKey = Extract<FactKey, { kind: "preflight" }>;

/**
 * Dry-runs a stage ahead of its turn, as the stage's identity. Only what no other object could mend is a refusal: what may
 * be over by the stage's turn is told as an Event, and what cannot be known yet is logged. Asked once for each render.
 */
export async function readPreflight(engine: Engine, pass: Pass, key: PreflightKey, signal: AbortSignal): Promise<Fact> {
  const stage = pass.snapshot.spec?.stages.find((each) => each.name === key.stage);
  if (stage === undefined) throw new RangeError(`no stage "${key.stage}" to look ahead at`);
  if (pass.session.preflighted.get(key.stage) === key.renderHash) return { kind: "preflight", refusal: undefined };
  const ahead: Ahead = { key, stage, renders: rendersOf(pass) };
  const found = await looked(engine, pass, ahead, signal);
  if (found === undefined) return { kind: "preflight", refusal: undefined };
  const mendable = mayBeMended(pass, ahead);
  const lasting = mendable ? [] : found.failures.filter(({ outlook }) => outlook === "lasting");
  if (lasting.length === 0) pass.session.preflighted.set(key.stage, key.renderHash);
  say(pass, key, { failures: found.failures.filter((each) => !lasting.includes(each)), unknown: found.unknown });
  return { kind: "preflight", refusal: describeRefusals(key.stage, lasting) };
}

interface Ahead {
  readonly key: PreflightKey;
  readonly stage: Stage;
  /** What the preflight rendered of each stage, gathered once: stages may be 1,000. */
  readonly renders: ReadonlyMap<string, readonly RenderedObject[]>;
}

/** Undefined when the stage cannot be looked at now, which its turn will say. */
async function looked(
  engine: Engine,
  pass: Pass,
  { key, stage, renders }: Ahead,
  signal: AbortSignal,
): Promise<ObjectsPreflight | undefined> {
  const prints = pass.session.fingerprints.get(key.stage);
  const objects = applyOrder(renders.get(key.stage) ?? []);
  const coming = comingKinds(pass, { key, renders });
  const later = objects.filter(({ group, kind }) => coming.has(`${group}/${kind}`));
  const now = objects.filter((object) => !later.includes(object));
  const lookedAt = engine.clock.monotonic();
  try {
    const access = await accessOf(engine, pass, key.as, signal);
    await access.connect(signal);
    const found = await preflightObjects(
      now.map((object) => ({ object, known: prints?.get(object.id) })),
      {
        access,
        policy: { conflictPolicy: stage.conflictPolicy, force: stage.force ?? false },
        owner: pass.key,
        mode: "changed",
        signal,
        clock: engine.clock,
        random: engine.random,
        inFlight: requestsPerPass,
      },
    );
    const hashes = new Map(now.map(({ id, hash }) => [id, hash]));
    const ahead = [...found.writes].map(([id, look]) => [id, { look, hash: hashes.get(id) ?? "", lookedAt }] as const);
    pass.looksAhead.set(key.stage, new Map(ahead));
    return { ...found, unknown: [...later, ...found.unknown] };
  } catch (error) {
    if (error instanceof KubeError || error instanceof IdentityError) return undefined;
    throw error;
  }
}

function rendersOf(pass: Pass): Ahead["renders"] {
  const renders = new Map<string, readonly RenderedObject[]>();
  for (const [name, fact] of pass.facts) {
    const [what, at, stage] = name.split(" ", 3);
    if (what === "render" && at === "preflight" && stage !== undefined && !renders.has(stage))
      if (fact.kind === "render" && fact.render.kind === "rendered") renders.set(stage, fact.render.objects);
  }
  return renders;
}

/** What the release is going to write of a stage, as far as it is known to differ from what was applied. */
function changedObjects(pass: Pass, { renders }: Pick<Ahead, "renders">, stage: string): readonly RenderedObject[] {
  const prints = pass.session.fingerprints.get(stage);
  return (renders.get(stage) ?? []).filter((object) => prints?.get(object.id)?.hash !== object.hash);
}

/** Kinds that this stage, or one before it, defines anew: what they will accept is not known yet. */
function comingKinds(pass: Pass, ahead: Pick<Ahead, "key" | "renders">): ReadonlySet<string> {
  const { stage, after } = ahead.key;
  return new Set(definedKinds([...after, stage].flatMap((each) => changedObjects(pass, ahead, each))).keys());
}

/** An earlier stage changes what manifests become before they are validated, or the values this one is rendered from. */
function mayBeMended(pass: Pass, ahead: Ahead): boolean {
  const { key, stage } = ahead;
  const sources = stage.postBuild?.substituteFrom ?? [];
  return key.after
    .flatMap((each) => changedObjects(pass, ahead, each))
    .some(
      (object) =>
        mayMendManifests(object) ||
        (object.group === "" &&
          object.namespace === pass.key.namespace &&
          sources.some(({ kind, name }) => kind === object.kind && name === object.name)),
    );
}

/** The first stage's turn is now: it speaks for itself. */
function say(
  pass: Pass,
  key: PreflightKey,
  { failures, unknown }: { readonly failures: readonly ObjectFailure[]; readonly unknown: readonly RenderedObject[] },
): void {
  if (key.after.length === 0) return;
  if (unknown.length > 0)
    pass.logger.info("preflight: kinds or namespaces are not there yet", {
      stage: key.stage,
      objects: unknown.slice(0, 10).map(describeObject).join(", "),
      count: unknown.length,
    });
  const finding = describeRefusals(key.stage, failures);
  if (finding === undefined) return;
  pass.report.event({
    type: "Warning",
    reason: "PreflightFinding",
    note: `would be refused if its turn were now: ${finding.message}`,
    once: `preflight ${key.stage} ${key.renderHash}`,
  });
}
