import { fleetPage, stageSetPage, stageSetRow } from "../../domain/why/view.ts";
import { explainWhy } from "../../domain/why/why.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../lib/telemetry.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import { pathOf, type HttpHandler, type HttpRequest, type HttpResponse } from "../message.ts";
import type { Assets } from "./assets.ts";
import type { Caller, Callers } from "./callers.ts";
import type { UiView } from "./ui-view.ts";
import { createWatchHub, mayList, type WatchScope } from "./watch-hub.ts";

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
  const hub = createWatchHub(options);
  const handler: HttpHandler = async (request) => {
    if (request.method !== "GET" && request.method !== "HEAD")
      return json(405, { error: "only GET and HEAD are answered" }, { allow: "GET, HEAD" });
    if (options.hosts?.(request.header("host") ?? "") === false)
      return json(403, { error: "this host is not served here" });
    const path = pathOf(request);
    if (!path.startsWith("/api/")) return options.assets.answer(request, path);
    const route = routeOf(path, request);
    const identified = await options.callers.identify(request);
    if (identified.kind === "unauthenticated")
      return json(401, { error: "a bearer token of the cluster is needed" }, { "www-authenticate": "Bearer" });
    if (identified.kind === "unknown" || !options.view.isSynced())
      return json(503, { error: "cannot be told now; try again" }, { "retry-after": "1" });
    if (route === undefined) return json(404, { error: "no such path" });
    return answer(options, { route, caller: identified.caller, hub });
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

async function answer(
  { view, logger }: UiOptions,
  {
    route,
    caller,
    hub,
  }: { readonly route: Route; readonly caller: Caller; readonly hub: ReturnType<typeof createWatchHub> },
): Promise<HttpResponse> {
  try {
    switch (route.kind) {
      case "stagesets": {
        const visible = await visibleStageSets(view, caller);
        return json(200, { items: visible.map((each) => stageSetRow(view.input(each))) });
      }
      case "fleetrollouts": {
        const isSeen = await caller.may({ verb: "list", resource: "fleetrollouts", namespace: "", name: "" });
        return json(200, { items: isSeen ? view.fleets().map(fleetPage) : [] });
      }
      case "fleetrollout": {
        const { name } = route;
        const isSeen = await caller.may({ verb: "get", resource: "fleetrollouts", namespace: "", name });
        const fleet = isSeen ? view.fleet(name) : undefined;
        return fleet === undefined ? hidden(isSeen) : json(200, fleetPage(fleet));
      }
      case "stageset":
      case "why": {
        const { namespace, name } = route;
        const isSeen = await caller.may({ verb: "get", resource: "stagesets", namespace, name });
        const stageSet = isSeen ? view.stageSet(namespace, name) : undefined;
        if (stageSet === undefined) return hidden(isSeen);
        const input = view.input(stageSet);
        return json(200, route.kind === "why" ? explainWhy(input) : stageSetPage(input));
      }
      case "watch": {
        const open = hub.reserve(caller);
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

async function visibleStageSets(view: UiView, caller: Caller): Promise<readonly KubeObject[]> {
  const all = view.stageSets();
  const namespaces = [...new Set(all.map(({ metadata }) => metadata.namespace ?? ""))];
  const seen = new Set<string>();
  await Promise.all(
    namespaces.map(async (namespace) => {
      if (await mayList(caller, namespace)) seen.add(namespace);
    }),
  );
  return all
    .filter(({ metadata }) => seen.has(metadata.namespace ?? ""))
    .toSorted(
      (a, b) => compare(a.metadata.namespace, b.metadata.namespace) || compare(a.metadata.name, b.metadata.name),
    );
}

function compare(a = "", b = ""): number {
  return a < b ? -1 : a > b ? 1 : 0;
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

function json(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): HttpResponse {
  return {
    status,
    headers: { ...headers, "content-type": "application/json; charset=utf-8" },
    body: `${JSON.stringify(body)}\n`,
  };
}
