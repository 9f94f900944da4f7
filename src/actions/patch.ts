import { fieldManager } from "../api/keys.ts";
import type { Action } from "../api/stage-set.ts";
import { renderJson } from "../build/json-render.ts";
import { parseYaml, YamlProblem } from "../build/yaml-parse.ts";
import { selectorText } from "../domain/formats/label-selector.ts";
import { isKubeError } from "../kube/error.ts";
import { createPageFollower } from "../kube/pages.ts";
import { listRequest, patchRequest, type ApiResource, type ObjectName, type PatchType } from "../kube/request.ts";
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
  const body = bodyOf(patch);
  const resource = await resourceOf(target, attempt);
  const names =
    target.name === undefined || target.name === ""
      ? await selected(resource, target, attempt)
      : [nameOf(resource, { namespace: target.namespace, name: target.name }, attempt)];
  for (const name of names) await patchOne({ resource, name, body, type: type ?? "merge" }, attempt);
}

/** The patch as JSON; numbers keep their digits. */
function bodyOf(patch: string): string {
  try {
    const [document, ...more] = parseYaml(patch, "api");
    if (document === undefined || more.length > 0)
      throw new ActionError("patch is not one YAML or JSON document", { retry: "final" });
    return renderJson(document);
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
    readonly body: string;
    readonly type: "merge" | "json6902";
  },
  { access, signal }: Attempt,
): Promise<void> {
  const { resource, name, body, type } = work;
  const send = (patchType: PatchType): Promise<unknown> =>
    access.client.send(patchRequest(resource, { ...name, patchType, body, fieldManager }), {
      signal,
      timeoutMs: requestMs,
    });
  try {
    if (type === "json6902") await send("json");
    else await sendMerge(send);
  } catch (error) {
    throw refused(`Cannot patch ${describeTarget(resource, name)}`, error, { secret: isSecret(resource) });
  }
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
