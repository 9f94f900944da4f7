import { fieldManager } from "../api/keys.ts";
import type { Action } from "../api/stage-set.ts";
import { renderJson } from "../build/json-render.ts";
import { emptyMapping, isMapping, isSequence, mappingAt, withMembers, type YamlValue } from "../build/yaml-value.ts";
import { podSpecPath } from "../domain/images/pod-spec.ts";
import { parseYaml, YamlProblem } from "../build/yaml-parse.ts";
import { selectorText } from "../domain/formats/label-selector.ts";
import { isKubeError } from "../kube/error.ts";
import { createPageFollower } from "../kube/pages.ts";
import {
  getRequest,
  listRequest,
  patchRequest,
  type ApiResource,
  type ObjectName,
  type PatchType,
} from "../kube/request.ts";
import { asArray, asText, at } from "../lib/json.ts";
import { ActionError } from "./action-error.ts";
import type { Attempt } from "./context.ts";
import { describeTarget, isSecret, nameOf, refused, resourceOf } from "./target.ts";

type Patch = NonNullable<Action["patch"]>;

/** Of one request. */
const requestMs = 30_000;
/** Objects per page of a selector's listing. */
const pageSize = 500;

/**
 * Patches the named object, or every object the selector finds, in the order of their names. The first refusal ends it; what
 * was patched stays patched.
 *
 * @throws {ActionError}
 */
export async function patchTarget({ target, type, patch }: Patch, attempt: Attempt): Promise<void> {
  const document = documentOf(patch);
  const resource = await resourceOf(target, attempt);
  const names =
    target.name === undefined || target.name === ""
      ? await selected(resource, target, attempt)
      : [nameOf(resource, { namespace: target.namespace, name: target.name }, attempt)];
  for (const name of names) await patchOne({ resource, name, document, type: type ?? "merge" }, attempt);
}

function documentOf(patch: string): YamlValue {
  try {
    const [document, ...more] = parseYaml(patch, "api");
    if (document === undefined || more.length > 0)
      throw new ActionError("patch is not one YAML or JSON document", { retry: "final" });
    return document;
  } catch (error) {
    if (!(error instanceof YamlProblem)) throw error;
    throw new ActionError(`patch is ${error.message}`, { retry: "final", cause: error });
  }
}

async function selected(
  resource: ApiResource,
  { namespace, selector = {} }: Patch["target"],
  attempt: Attempt,
): Promise<readonly ObjectName[]> {
  const { access, signal } = attempt;
  const scope = nameOf(resource, { namespace, name: "" }, attempt).namespace;
  const names: string[] = [];
  const follow = createPageFollower(resource.plural);
  let next: string | undefined;
  do {
    const request = listRequest(resource, {
      namespace: scope,
      labelSelector: selectorText(selector),
      limit: pageSize,
      continue: next,
      metadataOnly: true,
    });
    let page: unknown;
    try {
      page = await access.client.send(request, { signal, timeoutMs: requestMs });
      next = follow(page);
    } catch (error) {
      throw refused(`Cannot list ${resource.plural}${scope === undefined ? "" : ` in namespace ${scope}`}`, error);
    }
    for (const item of asArray(at(page, "items"))) names.push(asText(at(item, "metadata", "name")) ?? "");
  } while (next !== undefined);
  return names.toSorted().map((name) => ({ namespace: scope, name }));
}

async function patchOne(
  work: {
    readonly resource: ApiResource;
    readonly name: ObjectName;
    readonly document: YamlValue;
    readonly type: "merge" | "json6902";
  },
  attempt: Attempt,
): Promise<void> {
  const { resource, name, document, type } = work;
  const { access, signal } = attempt;
  /** The patch as JSON; numbers keep their digits. */
  const patch = (body: YamlValue, o: { readonly dryRun?: boolean } = {}): Promise<unknown> => {
    const send = (patchType: PatchType): Promise<unknown> =>
      access.client.send(patchRequest(resource, { ...name, patchType, body: renderJson(body), fieldManager, ...o }), {
        signal,
        timeoutMs: requestMs,
      });
    return type === "json6902" ? send("json") : sendMerge(send);
  };
  try {
    if (podSpecPath(resource) === undefined || !attempt.context.judgesImages()) await patch(document);
    else await patchPods({ ...work, patch }, attempt);
  } catch (error) {
    if (error instanceof ActionError) throw error;
    throw refused(`Cannot patch ${describeTarget(resource, name)}`, error, { secret: isSecret(resource) });
  }
}

/** Attempts at an object that others keep changing between what is judged and what is written. */
const mostConflicts = 5;

/**
 * An object that runs images: what the patch would make of it is judged first, and written only if it is still what it
 * was then (spec 50 §4.2).
 */
async function patchPods(
  work: {
    readonly resource: ApiResource;
    readonly name: ObjectName;
    readonly document: YamlValue;
    readonly type: "merge" | "json6902";
    readonly patch: (body: YamlValue, o?: { readonly dryRun?: boolean }) => Promise<unknown>;
  },
  { context, access, signal }: Attempt,
): Promise<void> {
  const { resource, name, document, type, patch } = work;
  for (let conflicts = 0; ; conflicts++) {
    const before = await access.client.send(getRequest(resource, name), { signal, timeoutMs: requestMs });
    const version = asText(at(before, "metadata", "resourceVersion")) ?? "";
    const bound = boundTo(document, { type, version });
    try {
      const after = await patch(bound, { dryRun: true });
      const { group, kind } = resource;
      await context.judgePatch({ group, kind, namespace: name.namespace ?? "", before, after }, signal);
      await patch(bound);
      return;
    } catch (error) {
      // A test that fails is told as an invalid patch.
      const moved = isKubeError(error, "Conflict") || (type === "json6902" && isKubeError(error, "Invalid"));
      if (!moved || conflicts >= mostConflicts || !(await hasMoved(version))) throw error;
    }
  }

  async function hasMoved(version: string): Promise<boolean> {
    const live = await access.client.send(getRequest(resource, name), { signal, timeoutMs: requestMs });
    return asText(at(live, "metadata", "resourceVersion")) !== version;
  }
}

/** The patch, for this version of the object and no other. */
function boundTo(
  document: YamlValue,
  { type, version }: { readonly type: "merge" | "json6902"; readonly version: string },
): YamlValue {
  if (type === "json6902") {
    if (!isSequence(document)) return document;
    return [{ op: "test", path: "/metadata/resourceVersion", value: version }, ...document];
  }
  if (!isMapping(document)) return document;
  const metadata = mappingAt(document, "metadata") ?? emptyMapping();
  return withMembers(document, { metadata: withMembers(metadata, { resourceVersion: version }) });
}

/** Custom resources know no strategic merge patch, and say so. */
async function sendMerge(send: (patchType: PatchType) => Promise<unknown>): Promise<unknown> {
  try {
    return await send("strategic");
  } catch (error) {
    if (!isKubeError(error) || error.httpStatus !== 415) throw error;
    return send("merge");
  }
}
