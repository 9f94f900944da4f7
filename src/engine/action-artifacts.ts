import { ActionError } from "../actions/action-error.ts";
import type { ActionArtifact, ActionBuild, Attempt } from "../actions/context.ts";
import { refused } from "../actions/target.ts";
import { BuildError } from "../build/build-error.ts";
import { buildStage, type Decryption } from "../build/build-stage.ts";
import { DecryptionError } from "../build/decryption-error.ts";
import { KeyProblem } from "../build/sops/key-text.ts";
import { ComputeError } from "../compute/compute-error.ts";
import type { ActionCall } from "../domain/actions/action-run.ts";
import type { Failure } from "../domain/failure.ts";
import { credentialIdentity } from "../domain/pass/plan.ts";
import { foreignSentence, pinOf, sourceTarget, type Pin } from "../domain/pins.ts";
import { askedNothing } from "../kms/share-opener.ts";
import { SourceError } from "../source/source-error.ts";
import type { Engine } from "./engine.ts";
import { pinActionImages } from "./action-images.ts";
import { localAccessOf } from "./facts/connection.ts";
import { decryptionOf } from "./facts/decryption.ts";
import { readDecryptionKeys, unusableKey } from "./facts/decryption-keys.ts";
import { readSource } from "./facts/pins.ts";
import { scopesOf } from "./facts/scopes.ts";
import type { Pass } from "./pass.ts";

/**
 * Resolves, fetches, decrypts and builds the artifact of a job or apply action, as it is now: it is no part of the pins of
 * the run (spec 30 §3.4). Whatever fails about a source in another namespace is the one sentence about it.
 *
 * @throws {ActionError}
 */
export async function buildActionArtifact(
  engine: Engine,
  pass: Pick<Pass, "key" | "snapshot" | "facts" | "logger">,
  call: ActionCall,
  { build, attempt }: { readonly build: ActionBuild; readonly attempt: Attempt },
): Promise<ActionArtifact> {
  const { namespace } = pass.key;
  const target = sourceTarget(build.sourceRef, namespace);
  if ("reason" in target) throw new ActionError(target.message, { retry: "final" });
  const foreign = target.namespace !== namespace;
  if (foreign && engine.options.crossNamespace === "refused")
    throw new ActionError(
      `sourceRef ${target.kind} "${target.name}" is in namespace "${target.namespace}", which --no-cross-namespace-refs refuses`,
      { retry: "final" },
    );
  try {
    const source = await readSource(engine, target, attempt.signal);
    if (source.kind === "failure") throw unusable(source.failure);
    const pin = pinOf(source.object, { ownNamespace: namespace, target, lastApplied: undefined });
    if ("reason" in pin) throw unusable(pin);
    return await fetchAndBuild(engine, pass, call, { build, attempt, pin });
  } catch (error) {
    attempt.signal.throwIfAborted();
    if (!foreign) throw error;
    pass.logger.info("source in another namespace is not usable", {
      source: `${target.kind} ${target.namespace}/${target.name}`,
      error: error instanceof Error ? error.message : String(error),
    });
    throw new ActionError(foreignSentence(target.kind, target.name, target.namespace), { class: "source" });
  }
}

function unusable({ reason, message }: Failure): ActionError {
  return new ActionError(message, { class: reason === "RBACDenied" ? "permanent" : "ordinary" });
}

async function fetchAndBuild(
  engine: Engine,
  pass: Pick<Pass, "key" | "snapshot" | "facts">,
  call: ActionCall,
  { build, attempt, pin }: { readonly build: ActionBuild; readonly attempt: Attempt; readonly pin: Pin },
): Promise<ActionArtifact> {
  const { signal } = attempt;
  const { namespace } = pass.key;
  const decryption = await actionDecryption(engine, pass, call, attempt);
  try {
    await using artifact = await engine.artifacts.open(
      { url: pin.url, digest: pin.digest },
      { signal, tenant: namespace },
    );
    try {
      const built = await buildStage(
        {
          root: artifact.root,
          path: build.path ?? "./",
          patches: [],
          variables: undefined,
          applyHelmHookResources: true,
          defaultNamespace: namespace,
          labels: build.labels,
          decryption,
        },
        {
          compute: engine.compute,
          kustomize: engine.kustomize,
          scopes: scopesOf(attempt.access, pass),
          signal,
          queue: namespace,
        },
      );
      const pinned = await pinActionImages(engine, pass, { call, objects: built.objects, digest: pin.digest }, signal);
      const objects = built.decrypted ? pinned.map((each) => ({ ...each, secretInput: true })) : pinned;
      return { objects, digest: artifact.digest };
    } catch (error) {
      if (error instanceof BuildError && error.reason === "Damaged") artifact.discard();
      throw error;
    }
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof SourceError)
      throw new ActionError(`fetch artifact: ${error.message}`, {
        retry: error.retry === "never" ? "final" : "attempt",
        cause: error,
      });
    if (error instanceof DecryptionError)
      throw new ActionError(`decryption failed: ${error.path}: ${error.class}`, { cause: error });
    if (error instanceof KeyProblem) throw new ActionError(unusableKey("spec.decryption", error), { cause: error });
    if (error instanceof BuildError || error instanceof ComputeError)
      throw new ActionError(`build: ${error.message}`, { cause: error });
    throw refused("Cannot build", error);
  }
}

/** The keys of `spec.decryption`, read live, and services, asked, as the StageSet's identity; with a count of its own. */
async function actionDecryption(
  engine: Engine,
  pass: Pick<Pass, "key" | "snapshot">,
  call: ActionCall,
  { signal }: Attempt,
): Promise<Decryption | undefined> {
  const { spec } = pass.snapshot;
  if (spec?.decryption === undefined) return undefined;
  const stage = spec.stages.find(({ name }) => name === call.stage);
  const as = credentialIdentity(spec, stage, engine.options);
  const read = await readDecryptionKeys(spec.decryption, {
    namespace: pass.key.namespace,
    access: () => localAccessOf(engine, pass.key.namespace, as, signal),
    signal,
  });
  if (read.kind === "keys")
    return decryptionOf(engine, { key: pass.key, kmsCalls: askedNothing() }, { spec, stage, keys: read.keys });
  throw new ActionError(read.cause, { class: read.kind === "denied" ? "permanent" : "ordinary" });
}
