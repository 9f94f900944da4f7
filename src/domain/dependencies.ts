import type { StageSetSpec } from "../api/stage-set.ts";
import { asArray, asNumber, asObject, asText, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { failure, type Failure } from "./failure.ts";
import { foreignSentence } from "./pins.ts";
import { compareVersions, parseVersion } from "./formats/version.ts";

/** What a dependent needs to know of another StageSet. */
export interface DependencyView {
  readonly generation: number;
  readonly observedGeneration: number | undefined;
  readonly ready: boolean;
  readonly version: string | undefined;
  /** It holds a new revision back: `pendingUpdate.revisions` is not empty, or an enforced `budgetFreeze`. */
  readonly holdsRevision: boolean;
  readonly dependsOn: readonly { readonly namespace: string; readonly name: string }[];
}

/** What a StageSet shows its dependents. */
export function dependencyView(stageSet: KubeObject): DependencyView {
  const own = stageSet.metadata.namespace ?? "";
  const ready = asArray(at(stageSet, "status", "conditions")).find((condition) => at(condition, "type") === "Ready");
  const freeze = asObject(at(stageSet, "status", "budgetFreeze"));
  const held = asObject(at(stageSet, "status", "pendingUpdate", "revisions")) ?? {};
  return {
    generation: stageSet.metadata.generation ?? 0,
    observedGeneration: asNumber(at(stageSet, "status", "observedGeneration")),
    ready: at(ready, "status") === "True",
    version: asText(at(stageSet, "status", "version")),
    holdsRevision: Object.keys(held).length > 0 || (freeze !== undefined && freeze["dryRun"] !== true),
    dependsOn: asArray(at(stageSet, "spec", "dependsOn")).flatMap((dependency) => {
      const name = asText(at(dependency, "name"));
      return name === undefined ? [] : [{ namespace: asText(at(dependency, "namespace")) ?? own, name }];
    }),
  };
}

export interface DependencyContext {
  readonly namespace: string;
  readonly name: string;
  readonly lookup: (namespace: string, name: string) => DependencyView | undefined;
  readonly crossNamespace: "allowed" | "refused";
}

/** The first unmet dependency in list order, a cycle before all (spec 20 step 7); undefined when all are met. */
export function unmetDependency(spec: StageSetSpec, context: DependencyContext): Failure | undefined {
  for (const dependency of spec.dependsOn ?? []) {
    const namespace =
      dependency.namespace === undefined || dependency.namespace === "" ? context.namespace : dependency.namespace;
    const foreign = namespace !== context.namespace;
    const problem =
      foreign && context.crossNamespace === "refused"
        ? "cross-namespace references are refused (--no-cross-namespace-refs)"
        : dependencyProblem(context.lookup(namespace, dependency.name), dependency.minVersion);
    if (problem === undefined) continue;
    const cycle = onCycle(spec, context);
    if (cycle !== undefined) return cycle;
    if (foreign && context.crossNamespace === "allowed")
      return failure("DependencyNotReady", foreignSentence("StageSet", dependency.name, namespace));
    return failure("DependencyNotReady", `dependency "${namespace}/${dependency.name}" ${problem}`);
  }
  return onCycle(spec, context);
}

/** Why a dependency is unmet; undefined: it is met. */
export function dependencyProblem(
  view: DependencyView | undefined,
  minVersion: string | undefined,
): string | undefined {
  if (view === undefined) return "does not exist";
  if (view.observedGeneration !== view.generation) return "has not been reconciled at its current generation";
  if (!view.ready) return "is not ready";
  if (view.holdsRevision) return "holds a new revision back";
  if (minVersion === undefined || minVersion === "") return undefined;
  const actual = view.version === undefined ? undefined : parseVersion(view.version);
  const required = parseVersion(minVersion);
  if (actual === undefined || required === undefined || compareVersions(actual, required) < 0)
    return `is at version "${view.version ?? ""}", below minVersion "${minVersion}"`;
  return undefined;
}

/** A breadth-first walk that comes back to its start; missing StageSets are leaves. */
function onCycle(spec: StageSetSpec, context: DependencyContext): Failure | undefined {
  const start = `${context.namespace}/${context.name}`;
  const seen = new Set<string>();
  let frontier = (spec.dependsOn ?? []).map((dependency) => ({
    namespace:
      dependency.namespace === undefined || dependency.namespace === "" ? context.namespace : dependency.namespace,
    name: dependency.name,
  }));
  while (frontier.length > 0) {
    const next: { namespace: string; name: string }[] = [];
    for (const node of frontier) {
      const key = `${node.namespace}/${node.name}`;
      if (key === start) return { ...failure("Stalled", "spec.dependsOn forms a cycle"), terminal: true };
      if (seen.has(key)) continue;
      seen.add(key);
      next.push(...(context.lookup(node.namespace, node.name)?.dependsOn ?? []));
    }
    frontier = next;
  }
  return undefined;
}
