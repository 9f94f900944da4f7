import type { KubeObject } from "../../lib/kube-object.ts";
import { asText, at } from "../../lib/json.ts";
import type { Readiness } from "./verdict.ts";
import { current, inProgress } from "./verdict.ts";

/** Service. Only a LoadBalancer is waited for, until it has a cluster address. */
export function serviceReadiness(object: KubeObject): Readiness {
  const balanced = at(object["spec"], "type") === "LoadBalancer";
  return balanced && asText(at(object["spec"], "clusterIP")) === undefined
    ? inProgress("the Service has no cluster address yet")
    : current("the Service exists");
}

/** PersistentVolumeClaim. A claim whose class binds on first use is judged by whoever can read the class. */
export function claimReadiness(object: KubeObject): Readiness {
  const phase = asText(at(object["status"], "phase"));
  return phase === "Bound"
    ? current("the claim is bound")
    : inProgress(`the claim is ${phase ?? "not seen by the volume controller yet"}`);
}
