import { asArray, asObject, asText, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { errorOfAnswer, KubeError } from "./error.ts";
import { apiVersionOf, type ApiResource } from "./request.ts";

/**
 * Where a list-and-watch stands. `list` reads pages, from the start when `page` is absent; `whole` asks for one page
 * because page tokens ran out before. `watch` follows changes after a resource version.
 */
export type WatchPosition =
  | { readonly kind: "list"; readonly page?: string; readonly whole: boolean }
  | { readonly kind: "watch"; readonly resourceVersion: string };

export type WatchInput =
  | {
      readonly kind: "page";
      readonly items: readonly KubeObject[];
      readonly resourceVersion: string;
      readonly continue?: string;
    }
  | { readonly kind: "event"; readonly event: WatchEvent }
  /** The request or its stream failed. */
  | { readonly kind: "failed"; readonly error: KubeError };

export type WatchEvent =
  | { readonly type: "ADDED" | "MODIFIED" | "DELETED"; readonly object: KubeObject }
  | { readonly type: "BOOKMARK"; readonly resourceVersion: string }
  | { readonly type: "ERROR"; readonly error: KubeError };

/**
 * What happens to the objects held. Between `begin` and `commit` a list is read: at `commit` those not put since `begin`
 * are gone. A list that starts over begins again.
 */
export type StoreEffect =
  | { readonly kind: "begin" }
  | { readonly kind: "put"; readonly object: KubeObject }
  | { readonly kind: "drop"; readonly object: KubeObject }
  | { readonly kind: "commit" };

export interface WatchStep {
  readonly position: WatchPosition;
  readonly effects: readonly StoreEffect[];
  /** The stream in hand is of no use any more. */
  readonly restart?: KubeError;
}

export const startOfWatch: WatchPosition = { kind: "list", whole: false };

/** The next position; a stream that ends without an error changes nothing: the same position is asked for again. */
export function stepWatch(position: WatchPosition, input: WatchInput): WatchStep {
  switch (input.kind) {
    case "page":
      return stepPage(position, input);
    case "event":
      return stepEvent(position, input.event);
    case "failed":
      return { position: afterFailure(position, input.error), effects: [] };
  }
}

function stepPage(position: WatchPosition, page: Extract<WatchInput, { kind: "page" }>): WatchStep {
  const first = position.kind !== "list" || position.page === undefined;
  const effects: StoreEffect[] = first ? [{ kind: "begin" }] : [];
  for (const object of page.items) effects.push({ kind: "put", object });
  if (page.continue !== undefined) {
    return { position: { kind: "list", page: page.continue, whole: false }, effects };
  }
  effects.push({ kind: "commit" });
  return { position: { kind: "watch", resourceVersion: page.resourceVersion }, effects };
}

function stepEvent(position: WatchPosition, event: WatchEvent): WatchStep {
  switch (event.type) {
    case "ADDED":
    case "MODIFIED":
      return { position: following(position, event.object), effects: [{ kind: "put", object: event.object }] };
    case "DELETED":
      return { position: following(position, event.object), effects: [{ kind: "drop", object: event.object }] };
    case "BOOKMARK":
      return { position: { kind: "watch", resourceVersion: event.resourceVersion }, effects: [] };
    case "ERROR":
      return { position: afterFailure(position, event.error), effects: [], restart: event.error };
  }
}

function following(position: WatchPosition, object: KubeObject): WatchPosition {
  const resourceVersion = object.metadata.resourceVersion;
  return resourceVersion === undefined ? position : { kind: "watch", resourceVersion };
}

function afterFailure(position: WatchPosition, error: KubeError): WatchPosition {
  if (position.kind === "list") {
    // In one page it is too large: in pages it may be read in time the next time.
    if (error.reason === "TooLarge") return { kind: "list", whole: false };
    // Page tokens run out after some minutes: a list that cannot be read in time is asked for in one page.
    return error.reason === "Gone" ? { kind: "list", whole: position.page !== undefined } : position;
  }
  // 504 says the version is in the server's future, as after a restore from backup: it will not come.
  const unusable = error.reason === "Gone" || error.reason === "BadRequest" || error.httpStatus === 504;
  return unusable ? startOfWatch : position;
}

/**
 * Reads one page of a list. Items of built-in kinds come without `apiVersion` and `kind`: they are filled in.
 *
 * @throws {KubeError} `Other`, when the answer is no list
 */
export function parsePage(resource: ApiResource, body: unknown): Extract<WatchInput, { kind: "page" }> {
  const resourceVersion = asText(at(body, "metadata", "resourceVersion"));
  if (resourceVersion === undefined) {
    throw new KubeError({ reason: "Other", message: `Cannot list "${resource.plural}": the answer is no list` });
  }
  const next = asText(at(body, "metadata", "continue"));
  return {
    kind: "page",
    items: asArray(at(body, "items")).flatMap((item) => parseObject(resource, item) ?? []),
    resourceVersion,
    ...(next === undefined ? {} : { continue: next }),
  };
}

/** Reads one value of a watch stream; undefined for what this version does not know. */
export function parseWatchEvent(resource: ApiResource, value: unknown): WatchEvent | undefined {
  const type = at(value, "type");
  const raw = at(value, "object");
  switch (type) {
    case "ADDED":
    case "MODIFIED":
    case "DELETED": {
      const object = parseObject(resource, raw);
      return object === undefined ? undefined : { type, object };
    }
    case "BOOKMARK": {
      const resourceVersion = asText(at(raw, "metadata", "resourceVersion"));
      return resourceVersion === undefined ? undefined : { type, resourceVersion };
    }
    case "ERROR": {
      const code = at(raw, "code");
      const httpStatus = typeof code === "number" ? code : 500;
      return { type, error: errorOfAnswer({ httpStatus, body: raw, what: `watch "${resource.plural}"` }) };
    }
    default:
      return undefined;
  }
}

function parseObject(resource: ApiResource, value: unknown): KubeObject | undefined {
  const object = asObject(value);
  if (object === undefined || asText(at(object, "metadata", "name")) === undefined) return undefined;
  const typed =
    typeof object["kind"] === "string" &&
    typeof object["apiVersion"] === "string" &&
    object["kind"] !== "PartialObjectMetadata"
      ? object
      : { ...object, apiVersion: apiVersionOf(resource), kind: resource.kind };
  // Checked: apiVersion, kind and metadata.name are there; the rest of metadata is the API server's own schema.
  return typed as unknown as KubeObject;
}
