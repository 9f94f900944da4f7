import { createHash } from "node:crypto";
import type { Stage, StageSetSpec } from "../../api/stage-set.ts";
import { BuildError } from "../../build/build-error.ts";
import { buildStage, type Variables } from "../../build/build-stage.ts";
import { ComputeError } from "../../compute/compute-error.ts";
import { failure, stageFailure, type Failure, type StageOperation } from "../../domain/failure.ts";
import { stageIdentity, stageSetIdentity } from "../../domain/pass/plan.ts";
import type { Fact, FactKey, RenderFact } from "../../domain/pass/state.ts";
import type { Pin } from "../../domain/pins.ts";
import { IdentityError, isDenied } from "../../identity/identity-error.ts";
import { KubeError } from "../../kube/error.ts";
import type { OpenArtifact } from "../../source/artifact-store.ts";
import { SourceError } from "../../source/source-error.ts";
import { StartOver, type Pass } from "../pass.ts";
import type { Engine } from "../engine.ts";
import { accessOf } from "./connection.ts";
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
  const started = engine.clock.monotonic();
  const opened = await openArtifact(engine, pass, { spec, stage, key }, signal);
  if (opened.kind !== "open") return opened;
  await using artifact = opened.artifact;
  engine.reports.phase("fetch", (engine.clock.monotonic() - started) / 1_000);
  const variables = await stageVariables(engine, pass, { spec, stage, key }, signal);
  if (variables.kind !== "variables") return variables;
  const buildStarted = engine.clock.monotonic();
  try {
    const as = stageIdentity(spec, stage, engine.options.defaultServiceAccount);
    const access = await accessOf(engine, pass.key.namespace, as, signal);
    const request = {
      root: artifact.root,
      path: stage.path ?? "./",
      patches: stage.patches ?? [],
      variables: variables.variables,
      applyHelmHookResources: stage.applyHelmHookResources ?? true,
      defaultNamespace: pass.key.namespace,
      labels: { stage: stage.name, name: pass.key.name, namespace: pass.key.namespace },
    };
    const cacheKey = hashOf([artifact.digest, stage, variables.digestOfValues, pass.key, access.client.cluster]);
    const built = await engine.renders.get(cacheKey, () =>
      buildStage(request, {
        compute: engine.compute,
        kustomize: engine.kustomize,
        scopes: scopesOf(access, pass),
        signal,
        queue: pass.key.namespace,
      }),
    );
    return {
      kind: "rendered",
      objects: built.objects,
      hash: hashOf(built.objects.map((object) => [object.id, object.version, object.hash])),
      substitutionDigest: variables.substitutionDigest,
      provisional: built.unscoped,
    };
  } catch (error) {
    if (error instanceof StartOver || signal.aborted) throw error;
    const substitution = error instanceof BuildError && error.reason === "Substitution";
    return failedRender(stage, substitution ? "resolve postBuild variables" : "build", error);
  } finally {
    engine.reports.phase("build", (engine.clock.monotonic() - buildStarted) / 1_000);
  }
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
  try {
    return { kind: "open", artifact: await engine.artifacts.open({ url: pin.url, digest: pin.digest }, { signal }) };
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
  try {
    const kept = await engine.artifacts.openKept(wanted, { signal });
    if (kept !== undefined) return { kind: "open", artifact: kept };
    if (recorded === undefined) return { kind: "unobtainable", why };
    return { kind: "open", artifact: await engine.artifacts.open({ url: recorded.url, digest: wanted }, { signal }) };
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
  const identity = stageSetIdentity(spec, engine.options.defaultServiceAccount);
  const as =
    identity.kind === "controller" && engine.options.requireServiceAccount
      ? stageIdentity(spec, stage, engine.options.defaultServiceAccount)
      : identity;
  const read = await readVariables(postBuild, {
    namespace: pass.key.namespace,
    salt: `${pass.snapshot.uid}${stage.name}`,
    access: () => accessOf(engine, pass.key.namespace, as, signal),
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
  // An earlier stage may still create what is missing; without one the preflight has the last word.
  const earlier = spec.stages[0]?.name !== stage.name;
  return read.kind === "missing" && earlier && key.at === "preflight"
    ? { kind: "postponed", failure: why }
    : { kind: "failed", failure: why };
}

function failedRender(stage: Stage, operation: StageOperation, error: unknown): RenderFact {
  if (error instanceof BuildError || error instanceof ComputeError)
    return { kind: "failed", failure: stageFailure({ name: stage.name, operation, cause: error.message }) };
  if (error instanceof KubeError || error instanceof IdentityError) {
    const authorization = isDenied(error) ? "authorization" : "ordinary";
    const name = { name: stage.name, operation: "connect to target cluster", cause: error.message } as const;
    return { kind: "failed", failure: stageFailure(name, authorization) };
  }
  throw error;
}

function hashOf(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}
