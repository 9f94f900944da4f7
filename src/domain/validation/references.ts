import type { SourceRef, StageSetSpec } from "../../api/stage-set.ts";
import { asText } from "../../lib/json.ts";
import { sourceTarget } from "../pins.ts";
import {
  deny,
  exactlyOneProblem,
  type Finding,
  inside,
  type Place,
  quote,
  root,
  type ValidationContext,
  warn,
} from "./finding.ts";
import {
  allActions,
  metricSourcesOf,
  type PlacedAction,
  sourceRefsOf,
  sourceRefsOfActions,
  stagesOf,
} from "./places.ts";
import { parseVersion } from "../formats/version.ts";

/** V5 to V9, V19 and V21: what the spec refers to. */
export function* referenceFindings(spec: StageSetSpec, context: ValidationContext): Generator<Finding> {
  yield* namedFindings(namedRefs(spec));
  yield* sourceFindings(sourceRefsOf(spec), context);
  yield* pathFindings(artifactPaths(spec));
  yield* dependencyFindings(spec, context);
  const ladder = spec.migrationsSourceRef?.sourceRef.namespace;
  if (ladder !== undefined && ladder !== "" && ladder !== context.namespace)
    yield deny(
      "V19",
      inside(inside(inside(root, "migrationsSourceRef"), "sourceRef"), "namespace"),
      `is ${quote(ladder)}, want the StageSet's own namespace ${quote(context.namespace)}`,
    );
  const cluster = spec.kubeConfig && exactlyOneProblem(spec.kubeConfig, ["configMapRef", "secretRef"]);
  if (cluster !== undefined) yield deny("V21", inside(root, "kubeConfig"), cluster);
}

type ReferenceContext = Pick<ValidationContext, "namespace" | "crossNamespace">;

/** V5 to V8 of some actions. */
export function* actionReferenceFindings(
  actions: readonly PlacedAction[],
  context: ReferenceContext,
): Generator<Finding> {
  yield* namedFindings(sourceRefsOfActions(actions));
  yield* namedFindings(actionRefs(actions));
  yield* sourceFindings(sourceRefsOfActions(actions), context);
  yield* pathFindings(actionPaths(actions));
}

function* namedFindings(refs: Iterable<NamedRef>): Generator<Finding> {
  for (const [place, ref] of refs) {
    if (ref.name === "") yield deny("V5", inside(place, "name"), "is empty, want a name");
    if (ref.kind === "") yield deny("V5", inside(place, "kind"), "is empty, want a kind");
  }
}

function* sourceFindings(refs: Iterable<readonly [Place, SourceRef]>, context: ReferenceContext): Generator<Finding> {
  for (const [place, ref] of refs) {
    const namespace = asText(ref.namespace) ?? context.namespace;
    if ("reason" in sourceTarget(ref, context.namespace))
      yield deny(
        "V6",
        inside(place, "apiVersion"),
        `is empty for the kind ${quote(ref.kind ?? "")}, want the API version of that kind: its group finds the artifact`,
      );
    if (namespace !== context.namespace && context.crossNamespace === "refused")
      yield warn("V8", inside(place, "namespace"), foreignMessage(namespace));
  }
}

function* pathFindings(paths: Iterable<readonly [Place, string]>): Generator<Finding> {
  for (const [place, path] of paths)
    if (leavesRoot(path)) yield deny("V7", place, `is ${quote(path)}, want a path within the artifact`);
}

function* dependencyFindings(spec: StageSetSpec, context: ValidationContext): Generator<Finding> {
  const seen = new Set<string>();
  for (const [index, dependency] of (spec.dependsOn ?? []).entries()) {
    const place = inside(inside(root, "dependsOn"), `[${index}]`);
    const namespace = asText(dependency.namespace) ?? context.namespace;
    const minVersion = asText(dependency.minVersion);
    const key = `${namespace}/${dependency.name}`;
    if (minVersion !== undefined && parseVersion(minVersion) === undefined)
      yield deny("V9", inside(place, "minVersion"), `is ${quote(minVersion)}, want a version such as "1.2.0"`);
    if (key === `${context.namespace}/${context.name}`)
      yield deny("V9", place, `names ${quote(key)}, the StageSet itself, want another one`);
    if (seen.has(key)) yield warn("V9", place, `names ${quote(key)} again`);
    seen.add(key);
    if (namespace !== context.namespace && context.crossNamespace === "refused")
      yield warn("V8", inside(place, "namespace"), foreignMessage(namespace));
  }
}

function foreignMessage(namespace: string): string {
  return `is ${quote(namespace)}, which will be refused: this controller runs with --no-cross-namespace-refs`;
}

type NamedRef = readonly [Place, { readonly name?: string; readonly kind?: string }];

/** What must have a name, and a kind where that is required; an optional kind is never empty here. */
function* namedRefs(spec: StageSetSpec): Generator<NamedRef> {
  yield* sourceRefsOf(spec);
  for (const [index, dependency] of (spec.dependsOn ?? []).entries())
    yield [inside(inside(root, "dependsOn"), `[${index}]`), dependency];
  const { configMapRef, secretRef } = spec.kubeConfig ?? {};
  if (configMapRef !== undefined) yield [inside(inside(root, "kubeConfig"), "configMapRef"), configMapRef];
  if (secretRef !== undefined) yield [inside(inside(root, "kubeConfig"), "secretRef"), secretRef];
  const keys = spec.decryption?.secretRef;
  if (keys !== undefined) yield [inside(inside(root, "decryption"), "secretRef"), keys];
  for (const [place, { prometheus, webhook }] of metricSourcesOf(spec)) {
    if (prometheus?.secretRef !== undefined)
      yield [inside(inside(place, "prometheus"), "secretRef"), prometheus.secretRef];
    if (webhook?.secretRef !== undefined) yield [inside(inside(place, "webhook"), "secretRef"), webhook.secretRef];
  }
  for (const [place, stage] of stagesOf(spec)) {
    for (const [index, ref] of (stage.postBuild?.substituteFrom ?? []).entries())
      yield [inside(inside(inside(place, "postBuild"), "substituteFrom"), `[${index}]`), ref];
    for (const [index, ref] of (stage.readyChecks?.checks ?? []).entries())
      yield [inside(inside(inside(place, "readyChecks"), "checks"), `[${index}]`), ref];
  }
  yield* actionRefs(allActions(spec));
}

function* actionRefs(actions: Iterable<PlacedAction>): Generator<NamedRef> {
  for (const [place, { wait, delete: deletion, patch, http }] of actions) {
    if (wait?.target !== undefined) yield [inside(inside(place, "wait"), "target"), wait.target];
    if (deletion !== undefined) yield [inside(inside(place, "delete"), "target"), deletion.target];
    // Whether the name of a patch target may be absent is V11's question.
    if (patch !== undefined) yield [inside(inside(place, "patch"), "target"), { kind: patch.target.kind }];
    if (http?.bodyFrom !== undefined) yield [inside(inside(place, "http"), "bodyFrom"), http.bodyFrom];
    for (const [index, ref] of (http?.headersFrom ?? []).entries())
      yield [inside(inside(inside(place, "http"), "headersFrom"), `[${index}]`), ref];
  }
}

/** Every path into an artifact that is set. */
function* artifactPaths(spec: StageSetSpec): Generator<readonly [Place, string]> {
  for (const [place, { path }] of stagesOf(spec)) if (path !== undefined) yield [inside(place, "path"), path];
  yield* actionPaths(allActions(spec));
  const ladder = spec.migrationsSourceRef?.path;
  if (ladder !== undefined) yield [inside(inside(root, "migrationsSourceRef"), "path"), ladder];
  const file = spec.version?.fromArtifact?.path;
  if (file !== undefined) yield [inside(inside(inside(root, "version"), "fromArtifact"), "path"), file];
}

function* actionPaths(actions: Iterable<PlacedAction>): Generator<readonly [Place, string]> {
  for (const [place, { job, apply }] of actions) {
    if (job?.path !== undefined) yield [inside(inside(place, "job"), "path"), job.path];
    if (apply?.path !== undefined) yield [inside(inside(place, "apply"), "path"), apply.path];
  }
}

function leavesRoot(path: string): boolean {
  let depth = 0;
  for (const part of path.split("/")) {
    if (part === "..") depth -= 1;
    else if (part !== "" && part !== ".") depth += 1;
    if (depth < 0) return true;
  }
  return false;
}
