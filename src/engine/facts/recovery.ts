import { nameLabel, namespaceLabel, stageLabel } from "../../api/keys.ts";
import { failure } from "../../domain/failure.ts";
import { renderObjectId } from "../../domain/object-id.ts";
import { stageIdentity } from "../../domain/pass/plan.ts";
import type { Fact, RecordedEntry } from "../../domain/pass/state.ts";
import { asArray, asText, at } from "../../lib/json.ts";
import { KubeError } from "../../kube/error.ts";
import { createPageFollower } from "../../kube/pages.ts";
import { listRequest, type ApiResource } from "../../kube/request.ts";
import type { Access } from "../../identity/access.ts";
import { IdentityError, isDenied, refusalOf } from "../../identity/identity-error.ts";
import type { Pass } from "../pass.ts";
import type { Engine } from "../engine.ts";
import { accessOf } from "./connection.ts";

/** Pages of a metadata list. */
const pageSize = 500;
/** Kinds listed at once. */
const atOnce = 8;

/**
 * Rebuilds what lost shards held: everything in the target that carries the three owner labels, over every kind that
 * can be listed as the stage's identity (spec 20 §8.4): in the whole target, else in the StageSet's namespace, since
 * that is all most identities may list.
 */
export async function recoverInventory(
  engine: Engine,
  pass: Pass,
  stages: readonly string[],
  signal: AbortSignal,
): Promise<Fact> {
  try {
    return await listOwned(engine, pass, stages, signal);
  } catch (error) {
    if (!(error instanceof KubeError) && !(error instanceof IdentityError)) throw error;
    const reason = isDenied(error) ? "RBACDenied" : "StageFailed";
    return { kind: "failed", failure: failure(reason, error.message), refusal: refusalOf(error) };
  }
}

async function listOwned(
  engine: Engine,
  pass: Pass,
  stages: readonly string[],
  signal: AbortSignal,
): Promise<Extract<Fact, { kind: "recovery" }>> {
  const found = new Map<string, RecordedEntry[]>(stages.map((stage) => [stage, []]));
  const unlisted = new Set<string>();
  for (const name of stages) {
    const { spec } = pass.snapshot;
    const stage = spec?.stages.find((candidate) => candidate.name === name);
    if (spec === undefined || stage === undefined) continue;
    const as = stageIdentity(spec, stage, engine.options.defaultServiceAccount);
    const access = await accessOf(engine, pass, as, signal);
    const labelSelector = [
      `${stageLabel}=${name}`,
      `${nameLabel}=${pass.key.name}`,
      `${namespaceLabel}=${pass.key.namespace}`,
    ].join(",");
    const listable = (await access.discovery.all(signal)).filter((resource) => resource.verbs.includes("list"));
    const queue = [...listable];
    const entries = found.get(name) ?? [];
    const worker = async (): Promise<void> => {
      for (let resource = queue.shift(); resource !== undefined; resource = queue.shift()) {
        const listed =
          (await listKind(access, { resource, labelSelector }, signal)) ??
          (resource.namespaced
            ? await listKind(access, { resource, labelSelector, namespace: pass.key.namespace }, signal)
            : undefined);
        if (listed === undefined) unlisted.add(`${resource.kind}${resource.group === "" ? "" : `.${resource.group}`}`);
        else entries.push(...listed);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
  }
  return { kind: "recovery", found, unlisted: [...unlisted].sort() };
}

/** Undefined when the identity may not list the kind. */
async function listKind(
  access: Access,
  list: { readonly resource: ApiResource; readonly labelSelector: string; readonly namespace?: string },
  signal: AbortSignal,
): Promise<readonly RecordedEntry[] | undefined> {
  const { resource, ...where } = list;
  const entries: RecordedEntry[] = [];
  const follow = createPageFollower(resource.plural);
  let next: string | undefined;
  do {
    let page: unknown;
    try {
      const request = listRequest(resource, { ...where, limit: pageSize, continue: next, metadataOnly: true });
      page = await access.client.send(request, { signal });
    } catch (error) {
      if (error instanceof KubeError) return undefined;
      throw error;
    }
    for (const item of asArray(at(page, "items"))) {
      const name = asText(at(item, "metadata", "name"));
      const namespace = asText(at(item, "metadata", "namespace")) ?? "";
      if (name === undefined) continue;
      const id = renderObjectId({ group: resource.group, kind: resource.kind, namespace, name });
      entries.push({ id, version: resource.version });
    }
    next = follow(page);
  } while (next !== undefined);
  return entries;
}
