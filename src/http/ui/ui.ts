import { deadline } from "../../lib/abort.ts";
import { abortable } from "../../lib/abortable.ts";
import { fleetPage, stageSetPage } from "../../domain/why/view.ts";
import { explainWhy } from "../../domain/why/why.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../lib/telemetry.ts";
import { pathOf, type HttpHandler, type HttpRequest, type HttpResponse } from "../message.ts";
import type { Assets } from "./assets.ts";
import type { Caller, Callers } from "./callers.ts";
import { createLists, type Lists } from "./list.ts";
import { createRows } from "./rows.ts";
import type { UiView } from "./ui-view.ts";
import { createWatchHub, type WatchHub } from "./watch-hub.ts";
import type { WatchScope } from "./watch-stream.ts";

/** On every answer of the UI's listener: nothing but its own files runs, and nobody frames it (spec 70 §9.9). */
export const uiHeaders = {
  "content-security-policy":
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "cache-control": "no-store",
  vary: "Authorization, Accept-Encoding",
} as const;

/** Of the UI's listener: its answers are large, and browsers send a request when the one before is answered. */
export const uiBounds = {
  unansweredPerConnection: 1,
  slowReaders: { takenWithinMs: 30_000, unsentBytes: 32 * 1024 * 1024 },
} as const;

/** How long an answer about one object waits for reviews. */
const reviewsMs = 4_000;

export interface UiOptions {
  readonly view: UiView;
  readonly callers: Callers;
  readonly assets: Assets;
  /** Undefined: any. Names a browser may call this listener by; others are refused, so that no foreign name leads here. */
  readonly hosts?: ((host: string) => boolean) | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Pages and JSON about what this replica knows; disposing ends the streams. */
export interface Ui extends Disposable {
  readonly handler: HttpHandler;
}

/** The read-only web UI. Its files are for everybody; what is under `/api/` is for callers, each within their rights. */
export function createUi(options: UiOptions): Ui {
  const rows = createRows(options.view);
  const hub = createWatchHub({ ...options, rows });
  const lists = createLists({ ...options, rows });
  const handler: HttpHandler = async (request, { signal }) => {
    if (request.method !== "GET" && request.method !== "HEAD")
      return json(405, { error: "only GET and HEAD are answered" }, { allow: "GET, HEAD" });
    if (options.hosts?.(request.header("host") ?? "") === false)
      return json(421, {
        error:
          "this host is not served without authentication: use an IP address, localhost, or the Service's name that ends in .svc, or ask for tokens with --ui-auth=kubernetes",
      });
    const path = pathOf(request);
    if (!path.startsWith("/api/")) return options.assets.answer(request, path);
    const route = routeOf(path, request);
    const identified = await options.callers.identify(request);
    if (identified.kind === "unauthenticated")
      return json(401, { error: "a bearer token of the cluster is needed" }, { "www-authenticate": "Bearer" });
    if (identified.kind === "unknown" || !options.view.isSynced())
      return json(503, { error: "cannot be told now; try again" }, { "retry-after": "1" });
    if (route === undefined) return json(404, { error: "no such path" });
    if (route.kind === "watch" && request.method === "HEAD")
      return json(405, { error: "a stream is read with GET" }, { allow: "GET" });
    using limit = deadline(options.clock, { timeoutMs: reviewsMs, what: "reviewing a caller", parent: signal });
    const { caller } = identified;
    return await answer(options, {
      route,
      caller,
      may: (access) => abortable(caller.may(access), limit.signal),
      hub,
      lists,
      signal,
    });
  };
  return { handler, [Symbol.dispose]: () => hub[Symbol.dispose]() };
}

type Route =
  | { readonly kind: "stagesets" }
  | { readonly kind: "fleetrollouts" }
  | { readonly kind: "stageset" | "why"; readonly namespace: string; readonly name: string }
  | { readonly kind: "fleetrollout"; readonly name: string }
  | { readonly kind: "watch"; readonly scope: WatchScope };

function routeOf(path: string, request: HttpRequest): Route | undefined {
  const [kind = "", namespace, name, more, ...rest] = path.slice("/api/v1/".length).split("/").map(decoded);
  if (!path.startsWith("/api/v1/") || rest.length > 0) return undefined;
  if (kind === "stagesets" && namespace === undefined) return { kind };
  if (kind === "fleetrollouts" && namespace === undefined) return { kind };
  if (kind === "fleetrollouts" && namespace !== undefined && name === undefined)
    return isName(namespace) ? { kind: "fleetrollout", name: namespace } : undefined;
  if (kind === "watch" && namespace === undefined) {
    const scope = scopeOf(request, path);
    return scope === undefined ? undefined : { kind: "watch", scope };
  }
  if (kind !== "stagesets" || !isName(namespace) || !isName(name)) return undefined;
  if (more === undefined) return { kind: "stageset", namespace, name };
  return more === "why" ? { kind: "why", namespace, name } : undefined;
}

/** `?namespace=&name=` watches one StageSet, `?fleetrollout=` one FleetRollout. */
function scopeOf(request: HttpRequest, path: string): WatchScope | undefined {
  const at = request.target.indexOf("?");
  const query = new URLSearchParams(at < 0 || path === "" ? "" : request.target.slice(at + 1));
  const [namespace, name] = [query.get("namespace"), query.get("name")];
  const fleet = query.get("fleetrollout");
  if (fleet !== null) return isName(fleet) ? { kind: "fleetrollout", name: fleet } : undefined;
  if (namespace === null && name === null) return { kind: "overview" };
  return isName(namespace) && isName(name) ? { kind: "stageset", namespace, name } : undefined;
}

interface Asked {
  readonly route: Route;
  readonly caller: Caller;
  /** Rejects when it cannot be told in time. */
  readonly may: Caller["may"];
  readonly hub: WatchHub;
  readonly lists: Lists;
  readonly signal: AbortSignal;
}

async function answer({ view, logger }: UiOptions, asked: Asked): Promise<HttpResponse> {
  const { route, caller, may, hub, lists, signal } = asked;
  try {
    switch (route.kind) {
      case "stagesets": {
        const list = lists.ofCaller(caller, signal);
        if (list === undefined) return json(429, { error: "you have a list under way" }, { "retry-after": "1" });
        return { status: 200, headers: { "content-type": jsonType }, body: await list };
      }
      case "fleetrollouts": {
        const isSeen = await may({ verb: "list", resource: "fleetrollouts", namespace: "", name: "" });
        return json(200, { items: isSeen ? view.fleets().map(fleetPage) : [] });
      }
      case "fleetrollout": {
        const { name } = route;
        const isSeen = await may({ verb: "get", resource: "fleetrollouts", namespace: "", name });
        const fleet = isSeen ? view.fleet(name) : undefined;
        return fleet === undefined ? hidden(isSeen) : json(200, fleetPage(fleet));
      }
      case "stageset":
      case "why": {
        const { namespace, name } = route;
        const isSeen = await may({ verb: "get", resource: "stagesets", namespace, name });
        const stageSet = isSeen ? view.stageSet(namespace, name) : undefined;
        if (stageSet === undefined) return hidden(isSeen);
        const input = view.input(stageSet);
        return json(200, route.kind === "why" ? explainWhy(input) : stageSetPage(input));
      }
      case "watch": {
        const open = hub.reserve(caller, signal);
        if (open === undefined) return json(503, { error: "too many streams are open" }, { "retry-after": "5" });
        return {
          status: 200,
          headers: { "content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no" },
          body: "",
          stream: (sink) => open(sink, route.scope),
        };
      }
    }
  } catch (error) {
    logger.warn("cannot review a caller", { error: error instanceof Error ? error.message : String(error) });
    return json(503, { error: "cannot be told now; try again" }, { "retry-after": "1" });
  }
}

/** Who may not read an object is not told whether it is there. */
function hidden(isSeen: boolean): HttpResponse {
  return isSeen ? json(404, { error: "no such object" }) : json(403, { error: "you may not read this object" });
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return "";
  }
}

/** What an object or a namespace may be called (RFC 1123 subdomain): no other is worth a review. */
function isName(text: string | null | undefined): text is string {
  return typeof text === "string" && text.length <= 253 && /^[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?$/.test(text);
}

const jsonType = "application/json; charset=utf-8";

function json(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): HttpResponse {
  return {
    status,
    headers: { ...headers, "content-type": jsonType },
    body: `${JSON.stringify(body)}\n`,
  };
}
