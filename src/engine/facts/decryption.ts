import type { Stage, StageSetSpec } from "../../api/stage-set.ts";
import type { Decryption } from "../../build/build-stage.ts";
import type { DecryptionError } from "../../build/decryption-error.ts";
import { KeyProblem } from "../../build/sops/key-text.ts";
import { stageFailure } from "../../domain/failure.ts";
import { credentialIdentity } from "../../domain/pass/plan.ts";
import type { RenderFact } from "../../domain/pass/state.ts";
import type { Engine } from "../engine.ts";
import type { Pass } from "../pass.ts";
import { unusableKey, type DecryptionKeys } from "./decryption-keys.ts";
import { federationOf } from "./federation.ts";

/** What a stage is decrypted with: its keys, and services asked as the StageSet's identity or as the controller. */
export function decryptionOf(
  engine: Engine,
  pass: Pick<Pass, "key" | "kmsCalls">,
  {
    spec,
    stage,
    keys,
  }: { readonly spec: StageSetSpec; readonly stage: Stage | undefined; readonly keys: DecryptionKeys | undefined },
): Decryption | undefined {
  if (keys === undefined) return undefined;
  const as = credentialIdentity(spec, stage, engine.options);
  const { namespace } = pass.key;
  const federated = engine.kms.perObject && as.kind === "serviceAccount";
  const federation = federated ? federationOf(engine, { namespace, name: as.name }) : undefined;
  const { kmsCalls: calls } = pass;
  const spent = { ms: 0 };
  const open: Decryption["open"] = (documents, signal) =>
    engine.kms.open({ documents, entries: keys.credentials, federation, calls, spent, signal });
  return { keys: keys.texts, open };
}

/** Status tells path and class; what the file is encrypted for is told to the log (spec 50 §3.3). */
export function failedDecryption(
  pass: Pass,
  {
    spec,
    stage,
    error,
  }: { readonly spec: StageSetSpec; readonly stage: Stage; readonly error: DecryptionError | KeyProblem },
): RenderFact {
  if (error instanceof KeyProblem) {
    const described = `Secret "${pass.key.namespace}/${spec.decryption?.secretRef?.name ?? ""}"`;
    const cause = unusableKey(described, error);
    return { kind: "failed", failure: stageFailure({ name: stage.name, operation: "configure decryption", cause }) };
  }
  const { path, class: problem, message } = error;
  pass.logger.info("cannot decrypt a document", { stage: stage.name, path, class: problem, error: message });
  const cause = `decryption failed: ${path}: ${problem}`;
  // What was tampered with stays so until there is another revision.
  const kind = problem === "MAC mismatch" || problem === "malformed" ? "terminal" : "ordinary";
  return { kind: "failed", failure: stageFailure({ name: stage.name, operation: "decrypt", cause }, kind) };
}
