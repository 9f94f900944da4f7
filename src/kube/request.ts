import { joinApiVersion } from "../lib/kube-object.ts";

/** One HTTP request to an API server, as a value: no credential, no host. */
export interface KubeRequest {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Absolute, already escaped. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly contentType?: string;
  readonly body?: Uint8Array | string;
  readonly accept?: string;
}

/** A kind as one cluster serves it. */
export interface ApiResource {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
  readonly verbs: readonly string[];
}

export interface ObjectName {
  readonly namespace?: string | undefined;
  readonly name: string;
}

export interface ListOptions {
  /** Absent: all namespaces. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  readonly limit?: number | undefined;
  readonly continue?: string | undefined;
  /** Absent: the newest state (a quorum read). */
  readonly resourceVersion?: string | undefined;
  /** The server sends `PartialObjectMetadata` instead of whole objects. */
  readonly metadataOnly?: boolean | undefined;
}

export interface WatchOptions {
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  /** Absent: the server starts with an ADDED event for each object that exists. */
  readonly resourceVersion?: string | undefined;
  /** After which the server ends the stream; default: the server's choice. */
  readonly timeoutSeconds?: number | undefined;
  readonly metadataOnly?: boolean | undefined;
}

export type Propagation = "Background" | "Foreground" | "Orphan";

const json = "application/json";

function collectionPath(r: ApiResource, namespace: string | undefined): string {
  const root = r.group === "" ? `/api/${r.version}` : `/apis/${r.group}/${r.version}`;
  return r.namespaced && namespace !== undefined && namespace !== ""
    ? `${root}/namespaces/${encodeURIComponent(namespace)}/${r.plural}`
    : `${root}/${r.plural}`;
}

function objectPath(r: ApiResource, n: ObjectName, subresource?: string): string {
  const path = `${collectionPath(r, n.namespace)}/${encodeURIComponent(n.name)}`;
  return subresource === undefined ? path : `${path}/${subresource}`;
}

function partial(kind: string): string {
  return `application/json;as=${kind};v=v1;g=meta.k8s.io,application/json`;
}

function queryOf(values: Readonly<Record<string, string | number | boolean | undefined>>): {
  readonly query?: Readonly<Record<string, string>>;
} {
  const query: Record<string, string> = {};
  for (const [key, value] of Object.entries(values)) {
    if (value !== undefined && value !== "") query[key] = String(value);
  }
  return Object.keys(query).length === 0 ? {} : { query };
}

function dryRunQuery(dryRun: boolean | undefined): "All" | undefined {
  return dryRun === true ? "All" : undefined;
}

export function getRequest(
  r: ApiResource,
  n: ObjectName & { readonly metadataOnly?: boolean | undefined },
): KubeRequest {
  return {
    method: "GET",
    path: objectPath(r, n),
    ...(n.metadataOnly === true ? { accept: partial("PartialObjectMetadata") } : {}),
  };
}

export function listRequest(r: ApiResource, o: ListOptions = {}): KubeRequest {
  return {
    method: "GET",
    path: collectionPath(r, o.namespace),
    ...queryOf({
      labelSelector: o.labelSelector,
      fieldSelector: o.fieldSelector,
      limit: o.limit,
      continue: o.continue,
      resourceVersion: o.resourceVersion,
    }),
    ...(o.metadataOnly === true ? { accept: partial("PartialObjectMetadataList") } : {}),
  };
}

export function watchRequest(r: ApiResource, o: WatchOptions = {}): KubeRequest {
  return {
    method: "GET",
    path: collectionPath(r, o.namespace),
    ...queryOf({
      watch: "true",
      allowWatchBookmarks: "true",
      labelSelector: o.labelSelector,
      fieldSelector: o.fieldSelector,
      resourceVersion: o.resourceVersion,
      timeoutSeconds: o.timeoutSeconds,
    }),
    ...(o.metadataOnly === true ? { accept: partial("PartialObjectMetadata") } : {}),
  };
}

export interface WriteOptions {
  readonly fieldManager?: string | undefined;
  /** The server checks and answers as if it wrote, and stores nothing. */
  readonly dryRun?: boolean | undefined;
}

/** `object` is sent as JSON as it is. */
export function createRequest(
  r: ApiResource,
  o: WriteOptions & { readonly namespace?: string | undefined; readonly object: unknown },
): KubeRequest {
  return {
    method: "POST",
    path: collectionPath(r, o.namespace),
    ...queryOf({ fieldManager: o.fieldManager, dryRun: dryRunQuery(o.dryRun) }),
    contentType: json,
    body: JSON.stringify(o.object),
  };
}

/** Replaces the object; `metadata.resourceVersion` in it is the precondition. */
export function replaceRequest(
  r: ApiResource,
  o: WriteOptions & ObjectName & { readonly object: unknown; readonly subresource?: "status" | undefined },
): KubeRequest {
  return {
    method: "PUT",
    path: objectPath(r, o, o.subresource),
    ...queryOf({ fieldManager: o.fieldManager, dryRun: dryRunQuery(o.dryRun) }),
    contentType: json,
    body: JSON.stringify(o.object),
  };
}

/** {@link replaceRequest} of the status subresource. */
export function replaceStatusRequest(
  r: ApiResource,
  o: WriteOptions & ObjectName & { readonly object: unknown },
): KubeRequest {
  return replaceRequest(r, { ...o, subresource: "status" });
}

/** RFC 7386: `null` removes a key. A `metadata.resourceVersion` in the patch is a precondition. */
export function mergePatchRequest(
  r: ApiResource,
  o: WriteOptions & ObjectName & { readonly patch: unknown; readonly subresource?: "status" | undefined },
): KubeRequest {
  return {
    method: "PATCH",
    path: objectPath(r, o, o.subresource),
    ...queryOf({ fieldManager: o.fieldManager, dryRun: dryRunQuery(o.dryRun) }),
    contentType: "application/merge-patch+json",
    body: JSON.stringify(o.patch),
  };
}

/** RFC 6902. */
export function jsonPatchRequest(
  r: ApiResource,
  o: WriteOptions &
    ObjectName & { readonly operations: readonly unknown[]; readonly subresource?: "status" | undefined },
): KubeRequest {
  return {
    method: "PATCH",
    path: objectPath(r, o, o.subresource),
    ...queryOf({ fieldManager: o.fieldManager, dryRun: dryRunQuery(o.dryRun) }),
    contentType: "application/json-patch+json",
    body: JSON.stringify(o.operations),
  };
}

export type PatchType = "strategic" | "merge" | "json";

const patchContentTypes = {
  strategic: "application/strategic-merge-patch+json",
  merge: "application/merge-patch+json",
  json: "application/json-patch+json",
} as const satisfies Readonly<Record<PatchType, string>>;

/** A patch that is JSON already, sent as it is. Custom resources answer 415 to a strategic one. */
export function patchRequest(
  r: ApiResource,
  o: WriteOptions & ObjectName & { readonly patchType: PatchType; readonly body: string },
): KubeRequest {
  return {
    method: "PATCH",
    path: objectPath(r, o),
    ...queryOf({ fieldManager: o.fieldManager, dryRun: dryRunQuery(o.dryRun) }),
    contentType: patchContentTypes[o.patchType],
    body: o.body,
  };
}

/** Server-side apply; `body` is the manifest as JSON or YAML bytes, sent untouched so that big integers keep their digits. */
export function applyRequest(
  r: ApiResource,
  o: ObjectName & {
    readonly body: Uint8Array | string;
    readonly fieldManager: string;
    readonly force: boolean;
    readonly dryRun?: boolean | undefined;
    readonly fieldValidation?: "Strict" | "Warn" | "Ignore" | undefined;
    readonly subresource?: "status" | undefined;
  },
): KubeRequest {
  return {
    method: "PATCH",
    path: objectPath(r, o, o.subresource),
    ...queryOf({
      fieldManager: o.fieldManager,
      force: o.force,
      dryRun: dryRunQuery(o.dryRun),
      fieldValidation: o.fieldValidation,
    }),
    contentType: "application/apply-patch+yaml",
    body: o.body,
  };
}

export function deleteRequest(
  r: ApiResource,
  o: ObjectName & {
    readonly uid?: string | undefined;
    readonly resourceVersion?: string | undefined;
    readonly propagation: Propagation;
    readonly dryRun?: boolean | undefined;
  },
): KubeRequest {
  const preconditions = {
    ...(o.uid === undefined ? {} : { uid: o.uid }),
    ...(o.resourceVersion === undefined ? {} : { resourceVersion: o.resourceVersion }),
  };
  return {
    method: "DELETE",
    path: objectPath(r, o),
    contentType: json,
    body: JSON.stringify({
      kind: "DeleteOptions",
      apiVersion: "v1",
      propagationPolicy: o.propagation,
      ...(Object.keys(preconditions).length === 0 ? {} : { preconditions }),
      ...(o.dryRun === true ? { dryRun: ["All"] } : {}),
    }),
  };
}

/** TokenRequest for a ServiceAccount, bound to no object; no audiences: the server's default. */
export function tokenRequest(o: {
  readonly namespace: string;
  readonly name: string;
  readonly expirationSeconds: number;
  readonly audiences?: readonly string[] | undefined;
}): KubeRequest {
  return {
    method: "POST",
    path: objectPath(serviceAccounts, o, "token"),
    contentType: json,
    body: JSON.stringify({
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: {
        expirationSeconds: o.expirationSeconds,
        ...(o.audiences === undefined ? {} : { audiences: o.audiences }),
      },
    }),
  };
}

export const serviceAccounts: ApiResource = {
  group: "",
  version: "v1",
  kind: "ServiceAccount",
  plural: "serviceaccounts",
  namespaced: true,
  verbs: [],
};

/** The `apiVersion` of objects of this kind. */
export function apiVersionOf(r: ApiResource): string {
  return joinApiVersion(r.group, r.version);
}
