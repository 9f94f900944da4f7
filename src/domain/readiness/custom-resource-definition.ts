import type { KubeObject } from "../../lib/kube-object.ts";
import type { Readiness } from "./verdict.ts";
import { conditionOf, conditionText, current, failed, inProgress } from "./verdict.ts";

/** CustomResourceDefinition: current once its kind is served. */
export function definitionReadiness(object: KubeObject): Readiness {
  const names = conditionOf(object, "NamesAccepted");
  if (names?.status === "False") return failed(conditionText(names));
  const established = conditionOf(object, "Established");
  if (established?.status === "True") return current("the kind is served");
  if (established?.status === "False" && established.reason !== "Installing") return failed(conditionText(established));
  return inProgress("the kind is not served yet");
}
