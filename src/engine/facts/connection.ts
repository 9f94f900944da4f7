import { failure, type Failure } from "../../domain/failure.ts";
import { identityKey, type Fact, type FactKey, type Identity } from "../../domain/pass/state.ts";
import type { KubeConfigReference } from "../../domain/target.ts";
import { KubeError } from "../../kube/error.ts";
import { IdentityError, isDenied } from "../../identity/identity-error.ts";
import type { Access, IdentityName } from "../../identity/access.ts";
import type { Pass } from "../pass.ts";
import type { Engine } from "../engine.ts";

/** The access of one identity of the StageSet's namespace to the cluster the controller runs in. */
export function localAccessOf(
  engine: Engine,
  namespace: string,
  identity: Identity,
  signal: AbortSignal,
): Promise<Access> {
  return engine.access.access(identityName(namespace, identity), { signal });
}

/**
 * The access of one identity to the target cluster. On a remote one a pass goes on with what it read, until a stage's turn
 * reads it anew (spec 50 §1.6).
 */
export function accessOf(
  engine: Engine,
  pass: Pick<Pass, "key" | "snapshot" | "connections">,
  identity: Identity,
  signal: AbortSignal,
): Promise<Access> {
  const reference = pass.snapshot.spec?.kubeConfig;
  if (reference === undefined) return localAccessOf(engine, pass.key.namespace, identity, signal);
  return pass.connections.get(identityKey(identity)) ?? openTarget(engine, pass, { reference, identity }, signal);
}

function openTarget(
  engine: Engine,
  pass: Pick<Pass, "key" | "connections">,
  { reference, identity }: { readonly reference: KubeConfigReference; readonly identity: Identity },
  signal: AbortSignal,
): Promise<Access> {
  const request = { owner: pass.key, reference, identity: identityName(pass.key.namespace, identity) };
  const opening = engine.targets.access(request, { signal });
  const key = identityKey(identity);
  pass.connections.set(key, opening);
  // Whoever asks next tries again.
  opening.catch(() => {
    if (pass.connections.get(key) === opening) pass.connections.delete(key);
  });
  return opening;
}

function identityName(namespace: string, identity: Identity): IdentityName {
  return identity.kind === "controller" ? "controller" : { namespace, serviceAccountName: identity.name };
}

/**
 * Proves that the identity can be assumed: its token is minted, or already held. Of a remote target the reference is read
 * anew, and the cluster has answered.
 */
export async function readConnection(
  engine: Engine,
  pass: Pass,
  { identity }: Extract<FactKey, { kind: "connection" }>,
  signal: AbortSignal,
): Promise<Fact> {
  const reference = pass.snapshot.spec?.kubeConfig;
  try {
    const access =
      reference === undefined
        ? await localAccessOf(engine, pass.key.namespace, identity, signal)
        : await openTarget(engine, pass, { reference, identity }, signal);
    await access.connect(signal);
    return { kind: "connection" };
  } catch (error) {
    if (!(error instanceof KubeError) && !(error instanceof IdentityError)) throw error;
    return { kind: "failed", failure: connectionFailure(error) };
  }
}

/** The access of one identity to the target, opened for work that outlives the pass. */
export function openAccess(
  engine: Engine,
  { key, snapshot }: Pick<Pass, "key" | "snapshot">,
  identity: Identity,
  signal: AbortSignal,
): Promise<Access> {
  const reference = snapshot.spec?.kubeConfig;
  if (reference === undefined) return localAccessOf(engine, key.namespace, identity, signal);
  return engine.targets.access({ owner: key, reference, identity: identityName(key.namespace, identity) }, { signal });
}

/** Why an identity cannot be used on the target. */
export function connectionFailure(error: KubeError | IdentityError): Failure {
  if (error instanceof IdentityError && error.reason === "TargetInvalid")
    return { ...failure("InvalidSpec", error.message), terminal: true };
  return failure(isDenied(error) ? "RBACDenied" : "StageFailed", error.message);
}
