import { createHash } from "node:crypto";
import type { Stage, StageSetSpec } from "../../api/stage-set.ts";
import { BuildError } from "../../build/build-error.ts";
import { buildStage, type Built, type Variables } from "../../build/build-stage.ts";
import { ComputeError } from "../../compute/compute-error.ts";
import { failure, stageFailure, type Failure, type StageOperation } from "../../domain/failure.ts";
import { connectFailure } from "../../domain/pass/failures.ts";
import { credentialIdentity, stageIdentity } from "../../domain/pass/plan.ts";
import type { Fact, FactKey, RenderFact } from "../../domain/pass/state.ts";
import type { Pin } from "../../domain/pins.ts";
import type { Access } from "../../identity/access.ts";
import { IdentityError } from "../../identity/identity-error.ts";
import { KubeError } from "../../kube/error.ts";
import type { OpenArtifact } from "../../source/artifact-store.ts";
import { SourceError } from "../../source/source-error.ts";
import type { Span } from "../../lib/telemetry.ts";
import { StartOver, type Pass } from "../pass.ts";
import { inPhase } from "../phase.ts";
import type { Engine } from "../engine.ts";
import { accessOf, connectionFailure, localAccessOf } from "./connection.ts";
import { scopesOf } from "./scopes.ts";
import { readVariables } from "./variables.ts";

type RenderKey = Extract<FactKey, { kind: "render" }>;

/** A stage's objects at one artifact: fetched, built and substituted, or the reason why not. */
export async function readRender(engine: Engine, pass: Pass, key: RenderKey, signal: AbortSignal): Promise<Fact> {
  const { spec } = pass.snapshot;
  const stage = spec?.stages.find((candidate) => candidate.name === key.stage);
  if (spec === undefined || stage === undefined) throw new RangeError(`no stage "${key.stage}" to render`);
  const slot = `${key.stage} ${key.identity.revision} ${key.identity.digest ?? ""} ${pass.snapshot.generation}`;
  const remembered = key.at === "preflight" ? pass.session.renders.get(slot) : undefined;
  const render = remembered ?? (await renderStage(engine, pass, { spec, stage, key }, signal));
  if (render.kind === "rendered") pass.session.renders.set(slot, render);
  return { kind: "render", render };
}

interface Rendering {
  readonly spec: StageSetSpec;
  readonly stage: Stage;
  readonly key: RenderKey;
}

async function renderStage(
  engine: Engine,
  pass: Pass,
  { spec, stage, key }: Rendering,
  signal: AbortSignal,
): Promise<RenderFact> {
  // Read before anything is fetched, because they decide whether anything need be.
  const early = await stageVariables(engine, pass, { spec, stage, key }, signal);
  const known = await rememberedBuild(engine, pass, { spec, stage, digest: key.pin?.digest, variables: early }, signal);
  if (known !== undefined) return known;
  const { revision, digest = "" } = key.identity;
  const attributes = { stage: stage.name, "stage.revision": revision, "stage.digest": digest };
  const opened = await inPhase(engine, pass, { span: "stage.fetch", measuredAs: "fetch", attributes }, async (span) =>
    failing(span, await openArtifact(engine, pass, { spec, stage, key }, signal)),
  );
  if (opened.kind !== "open") return opened;
  await using artifact = opened.artifact;
  // What was begun ahead of it comes too late.
  engine.aheads.abandon(pass.key);
  if (early.kind !== "variables") return early;
  const built = { stage, spec, artifact, variables: early };
  return await inPhase(
    engine,
    pass,
    { span: "stage.build", measuredAs: "build", attributes: { stage: stage.name } },
    async (span) => failing(span, await build(engine, pass, built, signal)),
  );
}

/** A stage that was built from the same inputs needs neither its artifact nor a build. */
async function rememberedBuild(
  engine: Engine,
  pass: Pass,
  from: {
    readonly spec: StageSetSpec;
    readonly stage: Stage;
    readonly digest: string | undefined;
    readonly variables: StageVariables;
  },
  signal: AbortSignal,
): Promise<RenderFact | undefined> {
  const { spec, stage, digest, variables } = from;
  if (digest === undefined || variables.kind !== "variables") return undefined;
  const as = stageIdentity(spec, stage, engine.options.defaultServiceAccount);
  try {
    const access = await accessOf(engine, pass, as, signal);
    const cacheKey = renderCacheKey(pass, { stage, access, variables, digest: digest.toLowerCase() });
    const built = engine.renders.peek(cacheKey);
    return built === undefined ? undefined : renderedFact(built, variables);
  } catch (error) {
    if (error instanceof KubeError || error instanceof IdentityError) return undefined;
    throw error;
  }
}

/**
 * Everything that goes into a render, with the identity under which it is applied and the StageSet whose identity read
 * its variables: no data read as one is ever served to another (spec 20 §13).
 */
function renderCacheKey(
  pass: Pass,
  from: {
    readonly stage: Stage;
    readonly access: Access;
    readonly variables: Extract<StageVariables, { kind: "variables" }>;
    readonly digest: string;
  },
): string {
  const { spec, uid } = pass.snapshot;
  const { stage, access, variables, digest } = from;
  return hashOf([digest, stage, variables.digestOfValues, pass.key, uid, spec?.serviceAccountName ?? "", access.key]);
}

function renderedFact(built: Built, { substitutionDigest }: { readonly substitutionDigest: string }): RenderFact {
  // What a Secret went into is hashed with a salt, and told by that.
  const secret = substitutionDigest.startsWith("s1:");
  return {
    kind: "rendered",
    objects: secret ? built.objects.map((object) => ({ ...object, secretInput: true })) : built.objects,
    hash: hashOf(built.objects.map((object) => [object.id, object.version, object.hash])),
    substitutionDigest,
    provisional: built.unscoped,
  };
}

async function build(
  engine: Engine,
  pass: Pass,
  from: {
    readonly spec: StageSetSpec;
    readonly stage: Stage;
    readonly artifact: OpenArtifact;
    readonly variables: Extract<StageVariables, { kind: "variables" }>;
  },
  signal: AbortSignal,
): Promise<RenderFact> {
  const { spec, stage, artifact, variables } = from;
  try {
    const as = stageIdentity(spec, stage, engine.options.defaultServiceAccount);
    const access = await accessOf(engine, pass, as, signal);
    const request = {
      root: artifact.root,
      path: stage.path ?? "./",
      patches: stage.patches ?? [],
      variables: variables.variables,
      applyHelmHookResources: stage.applyHelmHookResources ?? true,
      defaultNamespace: pass.key.namespace,
      labels: { stage: stage.name, name: pass.key.name, namespace: pass.key.namespace },
    };
    const cacheKey = renderCacheKey(pass, { stage, access, variables, digest: artifact.digest });
    const built = await engine.renders.get(cacheKey, () =>
      buildStage(request, {
        compute: engine.compute,
        kustomize: engine.kustomize,
        scopes: scopesOf(access, pass),
        signal,
        queue: pass.key.namespace,
      }),
    );
    return renderedFact(built, variables);
  } catch (error) {
    if (error instanceof BuildError && error.reason === "Damaged") artifact.discard();
    if (error instanceof StartOver || signal.aborted) throw error;
    const substitution = error instanceof BuildError && error.reason === "Substitution";
    return failedRender(stage, substitution ? "resolve postBuild variables" : "build", error);
  }
}

/** Fails the span of a phase that answered with a failure. */
function failing<T extends Opened>(span: Span, outcome: T): T {
  if (outcome.kind === "failed") span.fail(outcome.failure.message);
  return outcome;
}

type Opened = { readonly kind: "open"; readonly artifact: OpenArtifact } | RenderFact;

/** The verified artifact: by its URL when it is the pin, else from what is kept or the recorded URL (spec 40 §1). */
async function openArtifact(
  engine: Engine,
  pass: Pass,
  { stage, key }: Rendering,
  signal: AbortSignal,
): Promise<Opened> {
  const { pin } = key;
  if (pin === undefined) return openHeld(engine, pass, { stage, key }, signal);
  const opening = { signal, tenant: pass.key.namespace };
  try {
    return { kind: "open", artifact: await engine.artifacts.open({ url: pin.url, digest: pin.digest }, opening) };
  } catch (error) {
    if (!(error instanceof SourceError)) throw error;
    // The source moved on under the run: resolve again, once per digest.
    if (error.reason === "Moved" && !pass.session.said.has(`moved ${pin.digest}`)) {
      pass.session.said.add(`moved ${pin.digest}`);
      pass.session.memory = { ...pass.session.memory, run: undefined };
      throw new StartOver();
    }
    return { kind: "failed", failure: fetchFailure(stage.name, pin, error) };
  }
}

async function openHeld(
  engine: Engine,
  pass: Pass,
  { stage, key }: Pick<Rendering, "stage" | "key">,
  signal: AbortSignal,
): Promise<Opened> {
  const { digest, revision } = key.identity;
  const recorded = pass.snapshot.stored?.lastAppliedSnapshot?.find(
    (entry) =>
      entry.stage === stage.name && entry.revision === revision && (digest === undefined || entry.digest === digest),
  );
  const wanted = digest ?? recorded?.digest;
  const why = `the content of revision "${revision}" of stage "${stage.name}" is not kept and cannot be fetched again`;
  if (wanted === undefined) return { kind: "unobtainable", why };
  const opening = { signal, tenant: pass.key.namespace };
  try {
    const kept = await engine.artifacts.openKept(wanted, opening);
    if (kept !== undefined) return { kind: "open", artifact: kept };
    if (recorded === undefined) return { kind: "unobtainable", why };
    return { kind: "open", artifact: await engine.artifacts.open({ url: recorded.url, digest: wanted }, opening) };
  } catch (error) {
    if (!(error instanceof SourceError)) throw error;
    return { kind: "unobtainable", why };
  }
}

/** About a source in another namespace only the one sentence is said (spec 20 §3.7). */
function fetchFailure(stage: string, pin: Pin, error: SourceError): Failure {
  if (pin.foreign) return failure("SourceNotReady", pin.foreignSentence, "retry");
  return stageFailure(
    { name: stage, operation: "fetch artifact", cause: error.message },
    error.retry === "never" ? "terminal" : "ordinary",
  );
}

type StageVariables =
  | {
      readonly kind: "variables";
      readonly variables: Variables | undefined;
      readonly substitutionDigest: string;
      /** Of the values themselves, for the cache key; never leaves this process. */
      readonly digestOfValues: string;
    }
  | RenderFact;

/** Values of `postBuild`, read live as the StageSet identity. */
async function stageVariables(
  engine: Engine,
  pass: Pass,
  { spec, stage, key }: Rendering,
  signal: AbortSignal,
): Promise<StageVariables> {
  const { postBuild } = stage;
  if (postBuild === undefined)
    return { kind: "variables", variables: undefined, substitutionDigest: "", digestOfValues: "" };
  const as = credentialIdentity(spec, stage, engine.options);
  const read = await readVariables(postBuild, {
    namespace: pass.key.namespace,
    salt: `${pass.snapshot.uid}${stage.name}`,
    access: () => localAccessOf(engine, pass.key.namespace, as, signal),
    signal,
  });
  if (read.kind === "read") {
    const digestOfValues = hashOf([...(read.variables?.values ?? [])]);
    return {
      kind: "variables",
      variables: read.variables,
      substitutionDigest: read.substitutionDigest,
      digestOfValues,
    };
  }
  const authorization = read.kind === "denied" ? "authorization" : "ordinary";
  const why = stageFailure(
    { name: stage.name, operation: "resolve postBuild variables", cause: read.cause },
    authorization,
  );
  // An earlier stage or a pre action may still create what is missing; without them the preflight has the last word.
  const earlier = spec.stages[0]?.name !== stage.name || (stage.actions?.pre ?? []).length > 0;
  return read.kind === "missing" && earlier && key.at === "preflight"
    ? { kind: "postponed", failure: why }
    : { kind: "failed", failure: why };
}

function failedRender(stage: Stage, operation: StageOperation, error: unknown): RenderFact {
  if (error instanceof BuildError || error instanceof ComputeError)
    return { kind: "failed", failure: stageFailure({ name: stage.name, operation, cause: error.message }) };
  if (error instanceof KubeError || error instanceof IdentityError) {
    return { kind: "failed", failure: connectFailure(stage.name, connectionFailure(error)) };
  }
  throw error;
}

function hashOf(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}
