import type { ObjectFailure } from "../apply/apply-wave.ts";
import { stageFailure, type Failure } from "../domain/failure.ts";

/** Failing objects named in a message (spec 20 §6.2). */
const mostNamed = 10;

/** All failures of a stage's objects in one message, the first ten named; undefined when there are none. */
export function describeRefusals(stage: string, failures: readonly ObjectFailure[]): Failure | undefined {
  const first = failures[0];
  if (first === undefined) return undefined;
  const named = failures.slice(0, mostNamed).map((each) => each.message);
  const cause =
    failures.length > mostNamed ? `${named.join("; ")}; ${failures.length} objects failed` : named.join("; ");
  const refused = failures.find((each) => each.class === "authorization" || each.class === "notServed");
  return stageFailure(
    { name: stage, operation: first.op, cause },
    refused === undefined ? "ordinary" : "authorization",
  );
}
