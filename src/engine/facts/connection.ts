import { failure } from "../../domain/failure.ts";
import type { Fact, Identity } from "../../domain/pass/state.ts";
import { KubeError } from "../../kube/error.ts";
import { IdentityError, isDenied } from "../../identity/identity-error.ts";
import type { Access } from "../../identity/access.ts";
import type { Pass } from "../pass.ts";
import type { Engine } from "../engine.ts";

/** The access of one identity of the StageSet's namespace. */
export function accessOf(engine: Engine, namespace: string, identity: Identity, signal: AbortSignal): Promise<Access> {
  return engine.access.access(
    identity.kind === "controller" ? "controller" : { namespace, serviceAccountName: identity.name },
    { signal },
  );
}

/** Proves that the identity can be assumed: its token is minted, or already held. */
export async function readConnection(
  engine: Engine,
  pass: Pass,
  identity: Identity,
  signal: AbortSignal,
): Promise<Fact> {
  try {
    const access = await accessOf(engine, pass.key.namespace, identity, signal);
    await access.connect(signal);
    return { kind: "connection" };
  } catch (error) {
    if (!(error instanceof KubeError) && !(error instanceof IdentityError)) throw error;
    return { kind: "failed", failure: failure(isDenied(error) ? "RBACDenied" : "StageFailed", error.message) };
  }
}
