import { deepEqual } from "../lib/equal.ts";
import { asArray, asObject, asText, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { Counter, Gauge, Histogram, Logger } from "../lib/telemetry.ts";
import { joinViolations, type Review } from "../domain/validation/validate-stored.ts";
import { type HttpHandler, type HttpResponse, pathOf, textResponse } from "./message.ts";

/** Bounds of what a client is shown (spec 10 §12). */
const mostWarnings = 15;
const longestWarning = 256;

/** One write the API server asks about. Objects are as they were sent: nothing of them is checked. */
export interface AdmissionRequest {
  readonly operation: "CREATE" | "UPDATE";
  readonly namespace: string;
  readonly name: string;
  readonly object: KubeObject;
  /** On UPDATE; undefined also when it is no object. */
  readonly oldObject: KubeObject | undefined;
  readonly user: AdmissionUser;
}

/** Who writes, as a SubjectAccessReview wants to know it. */
export interface AdmissionUser {
  readonly username: string;
  readonly uid: string;
  readonly groups: readonly string[];
  readonly extra: Readonly<Record<string, readonly string[]>>;
}

/** What one endpoint says to a write; a rejection is a fault and answered 500. */
export type Reviewer = (request: AdmissionRequest, o: { readonly signal: AbortSignal }) => Review | Promise<Review>;

export interface AdmissionMetrics {
  readonly requests: Counter;
  readonly inFlight: Gauge;
  readonly latency: Histogram;
}

const nothing: Review = { violations: [], warnings: [] };

/**
 * Reviews of validating webhooks (`admission.k8s.io/v1`), by path. A denial is 403 Forbidden: appliers take 422 and 409
 * for an immutable field, and recreate the object.
 */
export function createAdmission(options: {
  readonly reviewers: Readonly<Record<string, Reviewer>>;
  readonly metrics: AdmissionMetrics;
  readonly logger: Logger;
  readonly clock: { monotonic(): number };
}): HttpHandler {
  const { reviewers, metrics, clock, logger } = options;
  const inFlight = new Map<string, number>();
  const track = (webhook: string, by: number): void => {
    const count = (inFlight.get(webhook) ?? 0) + by;
    inFlight.set(webhook, count);
    metrics.inFlight.set({ webhook }, count);
  };
  return async (request, { signal }) => {
    const webhook = pathOf(request);
    const reviewer = Object.hasOwn(reviewers, webhook) ? reviewers[webhook] : undefined;
    if (reviewer === undefined) return textResponse(404, "no such webhook\n");
    if (request.method !== "POST") return { ...textResponse(405, "only POST\n"), headers: { allow: "POST" } };
    const began = clock.monotonic();
    let code = 500;
    track(webhook, 1);
    try {
      const response = await answer(request, { reviewer, signal, logger });
      code = response.status;
      return response;
    } finally {
      track(webhook, -1);
      metrics.requests.add({ webhook, code: String(code) });
      metrics.latency.observe({ webhook }, (clock.monotonic() - began) / 1_000);
    }
  };
}

async function answer(
  request: Parameters<HttpHandler>[0],
  o: { readonly reviewer: Reviewer; readonly signal: AbortSignal; readonly logger: Logger },
): Promise<HttpResponse> {
  if (!isJson(request.header("content-type"))) return textResponse(400, "want the content type application/json\n");
  const parsed = parseReview(request.body);
  if (parsed === undefined) return textResponse(400, "want an AdmissionReview of admission.k8s.io/v1 with a request\n");
  const { uid, write } = parsed;
  const review = write === undefined ? nothing : await o.reviewer(write, { signal: o.signal });
  const message = joinViolations(review.violations);
  if (message !== undefined && write !== undefined)
    o.logger.info("write denied", { namespace: write.namespace, name: write.name, user: write.user.username, message });
  return {
    status: 200,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      apiVersion: "admission.k8s.io/v1",
      kind: "AdmissionReview",
      response: {
        uid,
        allowed: message === undefined,
        ...(message === undefined ? {} : { status: { status: "Failure", code: 403, reason: "Forbidden", message } }),
        ...(review.warnings.length === 0 ? {} : { warnings: shownWarnings(review.warnings) }),
      },
    }),
  };
}

function isJson(contentType: string | undefined): boolean {
  return contentType?.split(";")[0]?.trim().toLowerCase() === "application/json";
}

function shownWarnings(warnings: readonly string[]): readonly string[] {
  const shown = warnings.length <= mostWarnings ? warnings : warnings.slice(0, mostWarnings - 1);
  const more = warnings.length - shown.length;
  const cut = shown.map((warning) => {
    const characters = Array.from(warning);
    return characters.length <= longestWarning ? warning : `${characters.slice(0, longestWarning - 1).join("")}…`;
  });
  return more === 0 ? cut : [...cut, `and ${more} more warnings`];
}

/** `write` is absent for what is never judged: deletions, subresources, and objects that are none. */
function parseReview(
  body: Uint8Array | undefined,
): { readonly uid: string; readonly write: AdmissionRequest | undefined } | undefined {
  const review = parseJson(body);
  const request = at(review, "request");
  const uid = asText(at(request, "uid"));
  if (at(review, "apiVersion") !== "admission.k8s.io/v1" || at(review, "kind") !== "AdmissionReview") return undefined;
  if (uid === undefined) return undefined;
  const operation = at(request, "operation");
  const name = asText(at(request, "name")) ?? "";
  const object = objectOf(at(request, "object"), name);
  if ((operation !== "CREATE" && operation !== "UPDATE") || asText(at(request, "subResource")) !== undefined)
    return { uid, write: undefined };
  if (object === undefined) return undefined;
  const user = at(request, "userInfo");
  return {
    uid,
    write: {
      operation,
      namespace: asText(at(request, "namespace")) ?? "",
      name: object.metadata.name,
      object,
      oldObject: operation === "UPDATE" ? objectOf(at(request, "oldObject"), name) : undefined,
      user: {
        username: asText(at(user, "username")) ?? "",
        uid: asText(at(user, "uid")) ?? "",
        groups: textsOf(at(user, "groups")),
        extra: Object.fromEntries(
          Object.entries(asObject(at(user, "extra")) ?? {}).map(([key, values]) => [key, textsOf(values)]),
        ),
      },
    },
  };
}

function parseJson(body: Uint8Array | undefined): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(body));
  } catch {
    return undefined;
  }
}

/** With metadata that has a name; the API server checked the rest of it. */
function objectOf(value: unknown, name: string): KubeObject | undefined {
  const object = asObject(value);
  if (object === undefined) return undefined;
  const metadata = asObject(object["metadata"]) ?? {};
  return {
    ...object,
    apiVersion: asText(object["apiVersion"]) ?? "",
    kind: asText(object["kind"]) ?? "",
    metadata: { ...metadata, name: asText(metadata["name"]) ?? name },
  };
}

function textsOf(value: unknown): readonly string[] {
  return asArray(value).filter((one) => typeof one === "string");
}

/**
 * Judges only what a write changes: an object that is being deleted, or whose spec stays as it is but for `ignored`
 * members, passes whatever it holds, so that one made invalid by an upgrade can be paused and deleted.
 */
export function reviewChanges(reviewer: Reviewer, ignored: readonly string[] = []): Reviewer {
  return (request, o) => {
    const { operation, object, oldObject } = request;
    if (operation === "UPDATE") {
      if (object.metadata.deletionTimestamp !== undefined) return nothing;
      if (oldObject !== undefined && isSameSpec(oldObject["spec"], object["spec"], ignored)) return nothing;
    }
    return reviewer(request, o);
  };
}

function isSameSpec(before: unknown, after: unknown, ignored: readonly string[]): boolean {
  const [left, right] = [before, after].map((spec) => {
    const members = asObject(spec);
    if (members === undefined) return spec;
    return Object.fromEntries(Object.entries(members).filter(([key]) => !ignored.includes(key)));
  });
  return deepEqual(left, right);
}
