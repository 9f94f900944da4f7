import { startCache, type CacheHealth, type ResourceCache } from "../kube/cache.ts";
import type { CacheChange } from "../kube/object-store.ts";
import type { KubeClient } from "../kube/client.ts";
import type { ApiResource } from "../kube/request.ts";
import type { Clock } from "../lib/clock.ts";
import { asArray, asObject, asText, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { Counter, Logger } from "../lib/telemetry.ts";
import { fluxGroup, fluxKinds } from "../engine/flux-sources.ts";

/** A kind by group, as references name it. */
export interface KindName {
  readonly group: string;
  readonly kind: string;
}

/**
 * Watches of Flux' sources and of the producers StageSets refer to, wherever the kind is served: a kind that is
 * installed later is engaged when its CRD is Established, and dropped with it (spec 20 §1).
 */
export interface SourceWatches extends AsyncDisposable {
  /** Producer kinds that StageSets refer to now; their watches are opened and closed accordingly. */
  refer(kinds: readonly KindName[]): void;
  get(kind: string, namespace: string, name: string): KubeObject | undefined;
  artifacts(namespace: string): readonly KubeObject[];
  /** `unsynced` also while the kind is not served. */
  health(kind: string): CacheHealth;
  /** The kind is known not to be served at all. */
  isAbsent(kind: string): boolean;
  whenSynced(signal: AbortSignal): Promise<void>;
}

const customResourceDefinitions: ApiResource = {
  group: "apiextensions.k8s.io",
  version: "v1",
  kind: "CustomResourceDefinition",
  plural: "customresourcedefinitions",
  namespaced: false,
  verbs: [],
};

interface Served {
  readonly name: string;
  readonly resource: ApiResource | undefined;
}

export interface SourceWatchOptions {
  readonly client: KubeClient;
  readonly namespaces: readonly string[] | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly failures: Counter;
  /** A source's artifact or Ready condition changed, or it came or went. */
  readonly onSource: (object: KubeObject) => void;
  readonly onProducer: (name: KindName, object: KubeObject) => void;
  /** A kind was installed or removed: what discovery knew is old. */
  readonly onKinds: () => void;
}

/** Opens its watches at once. */
export function startSourceWatches(options: SourceWatchOptions): SourceWatches {
  const { client, clock, logger } = options;
  const caches = new Map<string, ResourceCache<KubeObject>>();
  const byNamespace = createGrouping();
  const closing = new Set<Promise<void>>();
  let producers = new Set<string>();
  const definitions = startCache<Served>({
    client,
    resource: customResourceDefinitions,
    project: servedOf,
    clock,
    logger,
  });

  const onChange =
    (kind: KindName) =>
    (change: CacheChange<KubeObject>): void => {
      if (kind.group !== fluxGroup) options.onProducer(kind, change.object);
      else if (change.type !== "updated" || isNews(change.object, change.previous)) options.onSource(change.object);
    };
  const engage = (resource: ApiResource): void => {
    const name = kindName(resource);
    if (caches.has(name)) return;
    const gvk = `${resource.group}/${resource.version}, Kind=${resource.kind}`;
    options.failures.add({ gvk }, 0);
    logger.debug("watching sources", { kind: resource.kind, group: resource.group });
    const cache = startCache<KubeObject>({
      client,
      resource,
      namespaces: options.namespaces,
      project: resource.group === fluxGroup ? sourceFields : producerFields,
      clock,
      logger: logger.with({ logger: "crdwatcher" }),
      onFailure: () => options.failures.add({ gvk }),
    });
    cache.subscribe(onChange(resource));
    caches.set(name, cache);
  };
  const disengage = (name: string): void => {
    const cache = caches.get(name);
    if (cache === undefined) return;
    caches.delete(name);
    const closed = Promise.resolve(cache[Symbol.asyncDispose]()).finally(() => closing.delete(closed));
    closing.add(closed);
  };
  const wanted = (resource: ApiResource): boolean =>
    (resource.group === fluxGroup && fluxKinds.some((kind) => kind === resource.kind)) ||
    producers.has(kindName(resource));
  const reconcile = (): void => {
    const served = new Map(
      definitions.list().flatMap(({ resource }) => (resource === undefined ? [] : [[kindName(resource), resource]])),
    );
    for (const resource of served.values()) if (wanted(resource)) engage(resource);
    for (const name of [...caches.keys()]) {
      const resource = served.get(name);
      if (resource === undefined || !wanted(resource)) disengage(name);
    }
  };
  const subscription = definitions.subscribe((change) => {
    if (change.type === "updated" && sameServed(change.object, change.previous)) return;
    options.onKinds();
    reconcile();
  });
  return {
    refer(kinds) {
      producers = new Set(kinds.map(kindName));
      reconcile();
    },
    get: (kind, namespace, name) => caches.get(`${fluxGroup}/${kind}`)?.get(namespace, name),
    artifacts: (namespace) =>
      byNamespace(caches.get(`${fluxGroup}/ExternalArtifact`)?.list() ?? []).get(namespace) ?? [],
    health: (kind) => caches.get(`${fluxGroup}/${kind}`)?.health() ?? "unsynced",
    isAbsent: (kind) => definitions.synced && !caches.has(`${fluxGroup}/${kind}`),
    async whenSynced(signal) {
      await definitions.whenSynced(signal);
      await Promise.all([...caches.values()].map((cache) => cache.whenSynced(signal)));
    },
    async [Symbol.asyncDispose]() {
      subscription[Symbol.dispose]();
      for (const name of [...caches.keys()]) disengage(name);
      await Promise.all([...closing, definitions[Symbol.asyncDispose]()]);
    },
  };
}

/** Groups a list, once for as long as it is the same: the gauge and the gate ask for each stage. */
function createGrouping(): (objects: readonly KubeObject[]) => ReadonlyMap<string, readonly KubeObject[]> {
  let grouped: readonly KubeObject[] | undefined;
  let groups: ReadonlyMap<string, readonly KubeObject[]> = new Map();
  return (objects) => {
    if (objects !== grouped) groups = Map.groupBy(objects, (object) => object.metadata.namespace ?? "");
    grouped = objects;
    return groups;
  };
}

function kindName(kind: KindName): string {
  return `${kind.group}/${kind.kind}`;
}

/** Only what is read of a CustomResourceDefinition: whether, and as what, its kind is served. */
function servedOf(definition: KubeObject): Served {
  const conditions = asArray(at(definition, "status", "conditions")).map(asObject);
  const established = conditions.some((each) => each?.["type"] === "Established" && each["status"] === "True");
  const group = asText(at(definition, "spec", "group"));
  const kind = asText(at(definition, "spec", "names", "kind"));
  const plural = asText(at(definition, "spec", "names", "plural"));
  const versions = asArray(at(definition, "spec", "versions"))
    .filter((version) => at(version, "served") === true)
    .map((version) => asText(at(version, "name")) ?? "");
  const version = versions.includes("v1") ? "v1" : versions[0];
  const { name } = definition.metadata;
  if (!established || group === undefined || kind === undefined || plural === undefined || version === undefined)
    return { name, resource: undefined };
  const namespaced = at(definition, "spec", "scope") === "Namespaced";
  return { name, resource: { group, version, kind, plural, namespaced, verbs: ["get", "list", "watch"] } };
}

function sameServed(a: Served, b: Served | undefined): boolean {
  return a.resource?.version === b?.resource?.version && a.resource?.kind === b?.resource?.kind;
}

/** What a source says that anybody waits for: its artifact and its Ready condition (spec 20 §1). */
function isNews(object: KubeObject, previous: KubeObject | undefined): boolean {
  return JSON.stringify(newsOf(object)) !== JSON.stringify(previous === undefined ? undefined : newsOf(previous));
}

function newsOf(object: KubeObject): unknown {
  const artifact = asObject(at(object, "status", "artifact"));
  const ready = asArray(at(object, "status", "conditions"))
    .map(asObject)
    .find((condition) => condition?.["type"] === "Ready");
  return [artifact?.["url"], artifact?.["digest"], artifact?.["revision"], ready?.["status"], ready?.["reason"]];
}

function sourceFields(object: KubeObject): KubeObject {
  const { name, namespace, uid, resourceVersion, generation } = object.metadata;
  return {
    apiVersion: object.apiVersion,
    kind: object.kind,
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
      ...(generation === undefined ? {} : { generation }),
    },
    spec: { sourceRef: at(object, "spec", "sourceRef") },
    status: { artifact: at(object, "status", "artifact"), conditions: at(object, "status", "conditions") },
  };
}

function producerFields(object: KubeObject): KubeObject {
  const { name, namespace } = object.metadata;
  return {
    apiVersion: object.apiVersion,
    kind: object.kind,
    metadata: { name, ...(namespace === undefined ? {} : { namespace }) },
  };
}
