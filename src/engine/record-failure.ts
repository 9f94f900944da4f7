import { stageFailure, type Failure } from "../domain/failure.ts";
import type { Write } from "../domain/pass/step.ts";
import { KubeError } from "../kube/error.ts";
import { isAuthorizationRefusal } from "../kube/refusal.ts";

/** An inventory that cannot be written fails its stage; anything else is the pass' own trouble and is thrown on. */
export function describeRecordFailure(write: Write, error: unknown): Failure | undefined {
  if (write.kind !== "inventory" || !(error instanceof KubeError)) return undefined;
  return stageFailure(
    { name: write.stage, operation: "record inventory", cause: error.message },
    isAuthorizationRefusal(error) ? "authorization" : "ordinary",
  );
}
