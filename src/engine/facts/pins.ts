import type { Stage } from "../../api/stage-set.ts";
import { failure, type Failure } from "../../domain/failure.ts";
import type { Fact } from "../../domain/pass/state.ts";
import { artifactsOf, foreignSentence, pinOf, sourceTarget, type Pin, type SourceTarget } from "../../domain/pins.ts";
import { appliedIdentity, stageEntry } from "../../domain/status.ts";
import { asArray, asObject, at } from "../../lib/json.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import { KubeError } from "../../kube/error.ts";
import { getRequest, listRequest, type ApiResource } from "../../kube/request.ts";
import { isAuthorizationRefusal } from "../../kube/refusal.ts";
import type { Pass } from "../pass.ts";
import type { Engine } from "../engine.ts";
import { fluxGroup, sourceResource } from "../flux-sources.ts";
import { asKubeObject } from "../kube-answer.ts";

type Source =
  { readonly kind: "object"; readonly object: KubeObject } | { readonly kind: "failure"; readonly failure: Failure };

const failed = (...why: Parameters<typeof failure>): Source => ({ kind: "failure", failure: failure(...why) });

/** Resolves every stage's source before any is acted on; stages that share a source share the read (spec 20 §3). */
export async function readPins(engine: Engine, pass: Pass, signal: AbortSignal): Promise<Fact> {
  const { spec } = pass.snapshot;
  if (spec === undefined) return { kind: "pins", pins: [] };
  const reads = new Map<string, Promise<Source>>();
  const resolved = await Promise.all(
    spec.stages.map(async (stage): Promise<Pin | Failure> => {
      const target = sourceTarget(stage.sourceRef, pass.key.namespace);
      if ("reason" in target) return target;
      const foreign = target.namespace !== pass.key.namespace;
      if (foreign && engine.options.crossNamespace === "refused")
        return failure(
          "ResolveFailed",
          `stage "${stage.name}": sourceRef ${target.kind} "${target.name}" is in namespace "${target.namespace}", which --no-cross-namespace-refs refuses`,
        );
      const name = JSON.stringify(target);
      const read = reads.get(name) ?? readSource(engine, target, signal);
      reads.set(name, read);
      return pinStage(engine, pass, { stage, target, source: await read });
    }),
  );
  const pins: Pin[] = [];
  for (const result of resolved) {
    if ("reason" in result) return { kind: "failed", failure: result };
    pins.push(result);
  }
  return { kind: "pins", pins };
}

function pinStage(
  engine: Engine,
  pass: Pass,
  read: { readonly stage: Stage; readonly target: SourceTarget; readonly source: Source },
): Pin | Failure {
  const { target, source } = read;
  if (source.kind === "object") {
    const entry = stageEntry(engine.journal.stored(currentObject(engine, pass)).status, read.stage.name);
    const context = { ownNamespace: pass.key.namespace, target, lastApplied: appliedIdentity(entry) };
    return pinOf(source.object, context);
  }
  if (target.namespace === pass.key.namespace) return source.failure;
  pass.logger.info("source in another namespace is not usable", {
    source: `${target.kind} ${target.namespace}/${target.name}`,
    error: source.failure.message,
  });
  return failure("SourceNotReady", foreignSentence(target.kind, target.name, target.namespace), "retry");
}

function currentObject(engine: Engine, pass: Pass): KubeObject {
  const object = engine.journal.object(pass.key);
  if (object === undefined) throw new Error("the StageSet vanished");
  return object;
}

/** Reads the named object, or the one ExternalArtifact that points back to a producer. */
export async function readSource(engine: Engine, target: SourceTarget, signal: AbortSignal): Promise<Source> {
  const { client, discovery } = engine.access.controller;
  const described = `${target.kind} "${target.namespace}/${target.name}"`;
  try {
    const kind = target.mode === "direct" ? target.kind : "ExternalArtifact";
    const version = target.mode === "direct" ? target.version : undefined;
    const resource = await sourceResource(discovery, { kind, version }, signal);
    if (resource === undefined)
      return failed(
        "RBACDenied",
        `Cannot read ${described}: kind ${kind} of ${fluxGroup} is not served; install its CRD`,
      );
    if (target.mode === "direct") {
      const { namespace, name } = target;
      const object = asKubeObject(await client.send(getRequest(resource, { namespace, name }), { signal }));
      return { kind: "object", object };
    }
    return producedBy(target, await listAll(client, resource, target.namespace, signal));
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    if (error.reason === "NotFound") return failed("ArtifactNotFound", `${described} does not exist`);
    const denied = isAuthorizationRefusal(error);
    return failed(
      denied ? "RBACDenied" : "ResolveFailed",
      `Cannot read ${described}: ${error.message}`,
      denied ? "minute" : "backoff",
    );
  }
}

function producedBy(target: Extract<SourceTarget, { mode: "producer" }>, artifacts: readonly KubeObject[]): Source {
  const matching = artifactsOf(target, artifacts);
  const first = matching[0];
  const described = `${target.kind} "${target.namespace}/${target.name}"`;
  if (first === undefined) return failed("ArtifactNotFound", `no ExternalArtifact points back to ${described}`);
  if (matching.length > 1) {
    const names = matching.map((each) => each.metadata.name).sort();
    return failed(
      "ResolveFailed",
      `several ExternalArtifacts point back to ${described}: ${names.join(", ")}`,
      "minute",
    );
  }
  return { kind: "object", object: first };
}

async function listAll(
  client: Engine["access"]["controller"]["client"],
  resource: ApiResource,
  namespace: string,
  signal: AbortSignal,
): Promise<readonly KubeObject[]> {
  const items: KubeObject[] = [];
  let next: string | undefined;
  do {
    const page = await client.send(listRequest(resource, { namespace, limit: 500, continue: next }), { signal });
    for (const item of asArray(at(page, "items")))
      items.push(
        asKubeObject({ apiVersion: `${resource.group}/${resource.version}`, kind: resource.kind, ...asObject(item) }),
      );
    const token = at(page, "metadata", "continue");
    next = typeof token === "string" && token !== "" ? token : undefined;
  } while (next !== undefined);
  return items;
}
