import { failure, stageFailure, type Failure } from "../domain/failure.ts";
import { actionFailure } from "../domain/pass/action-step.ts";
import type { Step } from "../domain/pass/step.ts";
import { KubeError } from "../kube/error.ts";
import { isAuthorizationRefusal } from "../kube/refusal.ts";

/**
 * An inventory that cannot be written fails its stage, a StageLedger the pass or the action that is done; anything else is
 * the pass' own trouble and is thrown on.
 */
export function describeRecordFailure(
  { write, completes }: Pick<Extract<Step, { kind: "record" }>, "write" | "completes">,
  error: unknown,
): Failure | undefined {
  if (!(error instanceof KubeError)) return undefined;
  if (write.kind === "ledger" || write.kind === "ledgerCreation") {
    const cause = `Cannot write the StageLedger: ${error.message}`;
    const denied = isAuthorizationRefusal(error);
    if (completes === undefined) return failure(denied ? "RBACDenied" : "StageFailed", cause);
    return actionFailure(completes.call, { kind: "failed", cause, class: denied ? "permanent" : "ordinary" });
  }
  if (write.kind !== "inventory") return undefined;
  return stageFailure(
    { name: write.stage, operation: "record inventory", cause: error.message },
    isAuthorizationRefusal(error) ? "authorization" : "ordinary",
  );
}
