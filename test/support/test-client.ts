import { Agent, request } from "node:https";
import type { IncomingMessage } from "node:http";
import { createInterface } from "node:readline";
import { asArray, asText, at } from "../../src/lib/json.ts";
import { joinApiVersion, type KubeObject } from "../../src/lib/kube-object.ts";

/** Names one object. A manifest is one too. */
export interface ObjectRef {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string | undefined };
}

/** Names a kind, all of it or what is in one namespace. */
export interface ListRef {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace?: string | undefined;
}

/** An object to write; `metadata.name` may be absent where `generateName` is given. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name?: string; readonly namespace?: string; readonly [field: string]: unknown };
  readonly [field: string]: unknown;
}

export interface ApiReply {
  readonly status: number;
  readonly body: unknown;
}

export interface RequestInput {
  /** JSON unless it is text. */
  readonly body?: unknown;
  readonly contentType?: string;
  readonly signal?: AbortSignal | undefined;
}

export interface WatchEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: KubeObject;
}

/** The API server refused; `status` and `reason` are Kubernetes'. */
export class TestApiError extends Error {
  override name = "TestApiError";
  readonly status: number;
  readonly reason: string;
  readonly body: unknown;
  constructor(what: string, { status, body }: ApiReply) {
    super(`${what}: ${status} ${asText(at(body, "message")) ?? JSON.stringify(body)}`);
    this.status = status;
    this.reason = asText(at(body, "reason")) ?? "";
    this.body = body;
  }
}

const patchTypes = {
  merge: "application/merge-patch+json",
  json: "application/json-patch+json",
  strategic: "application/strategic-merge-patch+json",
} as const;

export interface PatchOptions {
  readonly type?: keyof typeof patchTypes;
  readonly subresource?: string;
  readonly fieldManager?: string;
}

export interface ApplyOptions {
  /** Default `test`. */
  readonly fieldManager?: string;
  /** Default true. */
  readonly force?: boolean;
  readonly subresource?: string;
  readonly dryRun?: boolean;
}

/**
 * Kubernetes requests for tests, written apart from `src/kube` so that a mistake there is not made twice. Every call
 * but `get` throws {@link TestApiError} when refused; `get` returns undefined for an object that is not there.
 */
export interface TestClient {
  get(ref: ObjectRef): Promise<KubeObject | undefined>;
  list(ref: ListRef, options?: { readonly labelSelector?: string }): Promise<readonly KubeObject[]>;
  create(manifest: Manifest): Promise<KubeObject>;
  /** PUT, so `metadata.resourceVersion` counts where it is given. */
  replace(manifest: Manifest, options?: { readonly subresource?: string }): Promise<KubeObject>;
  /** Server-side apply. */
  apply(manifest: Manifest, options?: ApplyOptions): Promise<KubeObject>;
  /** A merge patch unless told otherwise. */
  patch(ref: ObjectRef, patch: unknown, options?: PatchOptions): Promise<KubeObject>;
  /** Merges into `status` through the subresource. */
  patchStatus(ref: ObjectRef, status: unknown): Promise<KubeObject>;
  /** Asks for deletion; an object that is not there is fine. */
  delete(
    ref: ObjectRef,
    options?: { readonly propagationPolicy?: "Background" | "Foreground" | "Orphan" },
  ): Promise<void>;
  /** Events as they come, from the given version or with all present objects first; ends with the signal or the server. */
  watch(
    ref: ListRef,
    options?: { readonly resourceVersion?: string; readonly signal?: AbortSignal },
  ): AsyncGenerator<WatchEvent, void, undefined>;
  /** The path of a kind's collection or of an object. */
  path(ref: ObjectRef | ListRef): Promise<string>;
  request(method: string, path: string, input?: RequestInput): Promise<ApiReply>;
}

export interface TestTarget {
  readonly server: string;
  readonly caPem: string;
  readonly token: string;
}

/** A client for the holder of a token. It keeps idle connections, which do not keep the process running. */
export function createTestClient({ server, caPem, token }: TestTarget): TestClient {
  const agent = new Agent({ ca: caPem, keepAlive: true, maxSockets: 32 });
  const plurals = new Map<string, { readonly plural: string; readonly namespaced: boolean }>();
  const open = (method: string, path: string, input: RequestInput): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const { body, contentType = "application/json", signal } = input;
      const payload = body === undefined ? "" : typeof body === "string" ? body : JSON.stringify(body);
      const headers = {
        authorization: `Bearer ${token}`,
        accept: "application/json",
        "content-type": contentType,
        "content-length": Buffer.byteLength(payload), // Node frames the body of a DELETE only when told its length.
      };
      const outgoing = request(new URL(path, server), { method, agent, headers, signal }, resolve);
      outgoing.once("error", reject);
      outgoing.end(payload);
    });
  const send = async (method: string, path: string, input: RequestInput = {}): Promise<ApiReply> => {
    const incoming = await open(method, path, input);
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer); // A stream without encoding yields buffers.
    const text = Buffer.concat(chunks).toString();
    return { status: incoming.statusCode ?? 0, body: text.startsWith("{") ? JSON.parse(text) : text };
  };
  const expectObject = async (method: string, path: string, input: RequestInput = {}): Promise<KubeObject> => {
    const reply = await send(method, path, input);
    if (reply.status >= 300) throw new TestApiError(`${method} ${path}`, reply);
    return reply.body as KubeObject; // What an API server answers with 2xx.
  };
  const pluralOf = async (apiVersion: string, kind: string): Promise<{ plural: string; namespaced: boolean }> => {
    const key = `${apiVersion}/${kind}`;
    const known = plurals.get(key);
    if (known !== undefined) return known;
    const found = await findPlural((path) => send("GET", path), apiVersion, kind);
    plurals.set(key, found);
    return found;
  };
  const path = async (ref: ObjectRef | ListRef): Promise<string> => {
    const { plural, namespaced } = await pluralOf(ref.apiVersion, ref.kind);
    const isObject = "metadata" in ref;
    const namespace = isObject ? (ref.metadata.namespace ?? "default") : ref.namespace;
    const root = `${apiRoot(ref.apiVersion)}${namespaced && namespace !== undefined ? `/namespaces/${namespace}` : ""}`;
    return `${root}/${plural}${isObject ? `/${ref.metadata.name}` : ""}`;
  };
  const collectionOf = ({ apiVersion, kind, metadata }: Manifest): Promise<string> =>
    path({ apiVersion, kind, namespace: metadata.namespace ?? "default" });
  return {
    path,
    request: send,
    async get(ref) {
      const where = await path(ref);
      const reply = await send("GET", where);
      if (reply.status === 404) return undefined;
      if (reply.status >= 300) throw new TestApiError(`GET ${where}`, reply);
      return reply.body as KubeObject; // What an API server answers with 2xx.
    },
    async list(ref, { labelSelector } = {}) {
      const query = labelSelector === undefined ? "" : `?labelSelector=${encodeURIComponent(labelSelector)}`;
      const found = await expectObject("GET", `${await path(kindOf(ref))}${query}`);
      const type = { apiVersion: ref.apiVersion, kind: ref.kind };
      return asArray(found["items"]).map((item) => ({ ...type, ...(item as KubeObject) })); // Items lack their type.
    },
    create: async (manifest) => expectObject("POST", await collectionOf(manifest), { body: manifest }),
    async replace(manifest, { subresource } = {}) {
      return expectObject("PUT", withSubresource(await path(namedRef(manifest)), subresource), { body: manifest });
    },
    async apply(manifest, { fieldManager = "test", force = true, subresource, dryRun = false } = {}) {
      const query = `?fieldManager=${fieldManager}&force=${force}${dryRun ? "&dryRun=All" : ""}`;
      const where = withSubresource(await path(namedRef(manifest)), subresource);
      return expectObject("PATCH", where + query, { body: manifest, contentType: "application/apply-patch+yaml" });
    },
    async patch(ref, patch, { type = "merge", subresource, fieldManager = "test" } = {}) {
      const where = `${withSubresource(await path(ref), subresource)}?fieldManager=${fieldManager}`;
      return expectObject("PATCH", where, { body: patch, contentType: patchTypes[type] });
    },
    patchStatus: async (ref, status) =>
      expectObject("PATCH", `${await path(ref)}/status`, { body: { status }, contentType: patchTypes.merge }),
    async delete(ref, { propagationPolicy = "Background" } = {}) {
      const where = await path(ref);
      const reply = await send("DELETE", where, { body: { propagationPolicy } });
      if (reply.status >= 300 && reply.status !== 404) throw new TestApiError(`DELETE ${where}`, reply);
    },
    async *watch(ref, { resourceVersion, signal } = {}) {
      const query = `?watch=true${resourceVersion === undefined ? "" : `&resourceVersion=${resourceVersion}`}`;
      const where = (await path(kindOf(ref))) + query;
      try {
        const incoming = await open("GET", where, { signal });
        if (incoming.statusCode !== 200) throw new Error(`GET ${where}: ${String(incoming.statusCode)}`);
        for await (const line of createInterface(incoming)) {
          yield JSON.parse(line) as WatchEvent; // The watch protocol.
        }
      } catch (error) {
        if (signal?.aborted !== true) throw error;
      }
    },
  };
}

function namedRef(manifest: Manifest): ObjectRef {
  const { apiVersion, kind, metadata } = manifest;
  return { apiVersion, kind, metadata: { name: metadata.name ?? "", namespace: metadata.namespace } };
}

// A manifest passed where a kind is expected must not be taken for its object.
function kindOf({ apiVersion, kind, namespace }: ListRef): ListRef {
  return { apiVersion, kind, namespace };
}

function withSubresource(path: string, subresource: string | undefined): string {
  return subresource === undefined ? path : `${path}/${subresource}`;
}

function apiRoot(apiVersion: string): string {
  return apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${joinApiVersion("", apiVersion)}`;
}

async function findPlural(
  get: (path: string) => Promise<ApiReply>,
  apiVersion: string,
  kind: string,
): Promise<{ readonly plural: string; readonly namespaced: boolean }> {
  const reply = await get(apiRoot(apiVersion));
  if (reply.status !== 200) throw new TestApiError(`discovery of ${apiVersion}`, reply);
  const resource = asArray(at(reply.body, "resources")).find(
    (one) => at(one, "kind") === kind && asText(at(one, "name"))?.includes("/") === false,
  );
  const plural = asText(at(resource, "name"));
  if (plural === undefined) throw new Error(`The API server does not serve ${apiVersion} ${kind}`);
  return { plural, namespaced: at(resource, "namespaced") === true };
}
