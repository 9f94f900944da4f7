import { createHash } from "node:crypto";
import type { Stage, StageSetSpec } from "../../api/stage-set.ts";
import { BuildError } from "../../build/build-error.ts";
import { buildStage, type Built } from "../../build/build-stage.ts";
import { DecryptionError } from "../../build/decryption-error.ts";
import { KeyProblem } from "../../build/sops/key-text.ts";
import { ComputeError } from "../../compute/compute-error.ts";
import { failure, stageFailure, type Failure, type StageOperation } from "../../domain/failure.ts";
import { connectFailure } from "../../domain/pass/failures.ts";
import { stageIdentity } from "../../domain/pass/plan.ts";
import type { Fact, RenderFact } from "../../domain/pass/state.ts";
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
import { accessOf, connectionFailure } from "./connection.ts";
import { noteDecrypted } from "./decrypted-renders.ts";
import { decryptionOf, failedDecryption } from "./decryption.ts";
import { renderKeyOf } from "./render-cache.ts";
import { scopesOf } from "./scopes.ts";
import { stageInputs, type Inputs, type Rendering, type StageInputs } from "./stage-inputs.ts";

/** A stage's objects at one artifact: fetched, built and substituted, or the reason why not. */
export async function readRender(
  engine: Engine,
  pass: Pass,
  key: Rendering["key"],
  signal: AbortSignal,
): Promise<Fact> {
  const { spec } = pass.snapshot;
  const stage = spec?.stages.find((candidate) => candidate.name === key.stage);
  if (spec === undefined || stage === undefined) throw new RangeError(`no stage "${key.stage}" to render`);
  const slot = `${key.stage} ${key.identity.revision} ${key.identity.digest ?? ""} ${pass.snapshot.generation}`;
  const remembered = key.at === "preflight" ? pass.session.renders.get(slot) : undefined;
  const render = remembered ?? (await renderStage(engine, pass, { spec, stage, key }, signal));
  if (render.kind === "rendered") pass.session.renders.set(slot, render);
  return { kind: "render", render };
}

async function renderStage(
  engine: Engine,
  pass: Pass,
  { spec, stage, key }: Rendering,
  signal: AbortSignal,
): Promise<RenderFact> {
  // Read before anything is fetched, because they decide whether anything need be.
  const early = await stageInputs(engine, pass, { spec, stage, key }, signal);
  const known = await rememberedBuild(engine, pass, { spec, stage, digest: key.pin?.digest, inputs: early }, signal);
  if (known !== undefined) return known;
  const { revision, digest = "" } = key.identity;
  const attributes = { stage: stage.name, "stage.revision": revision, "stage.digest": digest };
  const opened = await inPhase(engine, pass, { span: "stage.fetch", measuredAs: "fetch", attributes }, async (span) =>
    failing(span, await openArtifact(engine, pass, { stage, key }, signal)),
  );
  if (opened.kind !== "open") return opened;
  await using artifact = opened.artifact;
  // What was begun ahead of it comes too late.
  engine.aheads.abandon(pass.key);
  if (early.kind !== "inputs") return early;
  const built = { stage, spec, artifact, inputs: early };
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
    readonly inputs: StageInputs;
  },
  signal: AbortSignal,
): Promise<RenderFact | undefined> {
  const { spec, stage, digest, inputs } = from;
  if (digest === undefined || inputs.kind !== "inputs") return undefined;
  const as = stageIdentity(spec, stage, engine.options.defaultServiceAccount);
  try {
    const access = await accessOf(engine, pass, as, signal);
    const cacheKey = renderCacheKey(pass, { stage, access, inputs, digest: digest.toLowerCase() });
    noteDecrypted(engine.renders, pass.session.decryptedRenders, {
      stage: stage.name,
      cacheKey,
      digest: inputs.keys?.digest,
    });
    const built = engine.renders.peek(cacheKey);
    return built === undefined ? undefined : renderedFact(built, inputs.variables);
  } catch (error) {
    if (error instanceof KubeError || error instanceof IdentityError) return undefined;
    throw error;
  }
}

/**
 * Everything that goes into a render, with the identity under which it is applied and the StageSet whose identity read
 * its variables and keys: no data read as one is ever served to another (spec 20 §13).
 */
function renderCacheKey(
  pass: Pass,
  from: {
    readonly stage: Stage;
    readonly access: Access;
    readonly inputs: Inputs;
    readonly digest: string;
  },
): string {
  const { spec, uid } = pass.snapshot;
  const { stage, access, inputs, digest } = from;
  const read = [inputs.variables.digestOfValues, inputs.keys?.digest ?? ""];
  return renderKeyOf(uid, hashOf([digest, stage, ...read, pass.key, spec?.serviceAccountName ?? "", access.key]));
}

function renderedFact(built: Built, { substitutionDigest }: { readonly substitutionDigest: string }): RenderFact {
  // What a Secret went into is hashed with a salt, and told by that.
  const secret = built.decrypted || substitutionDigest.startsWith("s1:");
  return {
    kind: "rendered",
    objects: secret ? built.objects.map((object) => ({ ...object, secretInput: true })) : built.objects,
    hash: hashOf(built.objects.map((object) => [object.id, object.version, object.hash])),
    substitutionDigest,
    provisional: built.unscoped,
    hasImages: built.objects.some(({ images }) => images !== undefined),
  };
}

async function build(
  engine: Engine,
  pass: Pass,
  from: {
    readonly spec: StageSetSpec;
    readonly stage: Stage;
    readonly artifact: OpenArtifact;
    readonly inputs: Inputs;
  },
  signal: AbortSignal,
): Promise<RenderFact> {
  const { spec, stage, artifact, inputs } = from;
  try {
    const as = stageIdentity(spec, stage, engine.options.defaultServiceAccount);
    const access = await accessOf(engine, pass, as, signal);
    const request = {
      root: artifact.root,
      path: stage.path ?? "./",
      patches: stage.patches ?? [],
      variables: inputs.variables.variables,
      applyHelmHookResources: stage.applyHelmHookResources ?? true,
      defaultNamespace: pass.key.namespace,
      labels: { stage: stage.name, name: pass.key.name, namespace: pass.key.namespace },
      decryption: decryptionOf(engine, pass, { spec, stage, keys: inputs.keys }),
    };
    const cacheKey = renderCacheKey(pass, { stage, access, inputs, digest: artifact.digest });
    noteDecrypted(engine.renders, pass.session.decryptedRenders, {
      stage: stage.name,
      cacheKey,
      digest: inputs.keys?.digest,
    });
    const built = await engine.renders.get(cacheKey, () =>
      buildStage(request, {
        compute: engine.compute,
        kustomize: engine.kustomize,
        scopes: scopesOf(access, pass),
        signal,
        queue: pass.key.namespace,
      }),
    );
    return renderedFact(built, inputs.variables);
  } catch (error) {
    if (error instanceof BuildError && error.reason === "Damaged") artifact.discard();
    if (error instanceof StartOver || signal.aborted) throw error;
    if (error instanceof DecryptionError || error instanceof KeyProblem)
      return failedDecryption(pass, { spec, stage, error });
    const substitution = error instanceof BuildError && error.reason === "Substitution";
    return failedRender(stage, substitution ? "resolve postBuild variables" : "build", error);
  }
}

/** Fails the span of a phase that answered with a failure. */
function failing<T extends Opened>(span: Span, outcome: T): T {
  if (outcome.kind === "failed") span.fail(outcome.failure.message);
  return outcome;
}

/** An artifact, or why it is not to be had. */
export type Opened = { readonly kind: "open"; readonly artifact: OpenArtifact } | RenderFact;

/** Which artifact of a stage. */
interface Opening {
  readonly stage: Stage;
  readonly key: Pick<Rendering["key"], "identity" | "pin">;
}

/** The verified artifact: by its URL when it is the pin, else from what is kept or the recorded URL (spec 40 §1). */
export async function openArtifact(
  engine: Engine,
  pass: Pass,
  { stage, key }: Opening,
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

async function openHeld(engine: Engine, pass: Pass, { stage, key }: Opening, signal: AbortSignal): Promise<Opened> {
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
