import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { SourceCaches } from "../controller/gate-view.ts";
import { artifactsOf, type SourceTarget } from "../domain/pins.ts";
import type { Lookup } from "../domain/why/why.ts";
import { createAssets, type Assets } from "../http/ui/assets.ts";
import { createOpenCallers, createReviewedCallers, type Callers } from "../http/ui/callers.ts";
import { isLocalHost } from "../http/ui/hosts.ts";
import { createUi, uiBounds, uiHeaders } from "../http/ui/ui.ts";
import type { UiView } from "../http/ui/ui-view.ts";
import { isAllowed } from "../kube/access-review.ts";
import type { KubeClient } from "../kube/client.ts";
import { reviewToken } from "../kube/token-review.ts";
import { apiGroup } from "../api/group.ts";
import { asNumber, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { UiConfig } from "./config.ts";
import { bindPatiently, type PatientListener } from "./listeners.ts";
import type { OwnCaches } from "./own-caches.ts";

const reviewTimeoutMs = 3_000;

/** Serves the web UI from this replica's caches as soon as they are synced (spec 70 §9.9). */
export async function startUi(options: {
  readonly ui: UiConfig;
  readonly client: KubeClient;
  readonly caches: Pick<OwnCaches, "stageSets" | "fleets">;
  readonly sources: SourceCaches;
  readonly leaseRenewedAt: () => number | undefined;
  readonly when: Promise<unknown>;
  readonly clock: Clock;
  readonly logger: Logger;
}): Promise<PatientListener> {
  const { ui: config, clock, logger, when } = options;
  await using stack = new AsyncDisposableStack();
  if (config.auth === "none") logger.warn("--ui-auth=none: whoever reaches the web UI reads all it shows");
  const view = stack.use(createUiView(options));
  const callers = config.auth === "none" ? createOpenCallers() : reviewedCallers(options);
  const hosts = config.auth === "none" ? isLocalHost : undefined;
  const ui = stack.use(createUi({ view, callers, hosts, assets: await readUiAssets(), clock, logger }));
  const listener = stack.use(
    bindPatiently({ address: config, handler: ui.handler, headers: uiHeaders, bounds: uiBounds, when, clock, logger }),
  );
  const running = stack.move();
  return {
    isListening: () => listener.isListening(),
    port: () => listener.port(),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

function reviewedCallers({ client, clock }: { readonly client: KubeClient; readonly clock: Clock }): Callers {
  return createReviewedCallers({
    clock,
    reviews: {
      authenticate: (token, { signal }) => reviewToken(client, token, { signal, timeoutMs: reviewTimeoutMs }),
      isAllowed: (user, access, { signal }) =>
        isAllowed(client, { user, access: { ...access, group: apiGroup } }, { signal, timeoutMs: reviewTimeoutMs }),
    },
  });
}

/** The files of the page: beside the program in a release, in `web/` of a checkout. Each is served as it is. */
export async function readUiAssets(): Promise<Assets> {
  const places = ["./web/", "../../web/"].map((place) => fileURLToPath(new URL(place, import.meta.url)));
  for (const place of places) {
    const names = await readdir(place).catch(() => undefined);
    if (names === undefined) continue;
    const shown = names.filter((name) => /\.(?:html|js|css|svg)$/.test(name));
    const files = await Promise.all(shown.map(async (name) => [name, await readFile(join(place, name))] as const));
    return createAssets(new Map(files));
  }
  throw new Error(`the files of the web UI are not in "${places.join('" or "')}"`);
}

/** What the caches hold, and since when specs wait to be looked at. */
export function createUiView({
  caches: { stageSets, fleets },
  sources,
  leaseRenewedAt,
  clock,
}: {
  readonly caches: Pick<OwnCaches, "stageSets" | "fleets">;
  /** Undefined: nothing is known of them. */
  readonly sources: SourceCaches | undefined;
  readonly leaseRenewedAt: () => number | undefined;
  readonly clock: Clock;
}): UiView & Disposable {
  const unobserved = new Map<string, { readonly generation: number | undefined; readonly since: number }>();
  const note = (stageSet: KubeObject): void => {
    const { namespace = "", name, generation } = stageSet.metadata;
    const key = `${namespace}/${name}`;
    if (asNumber(at(stageSet, "status", "observedGeneration")) === generation) unobserved.delete(key);
    else if (unobserved.get(key)?.generation !== generation) unobserved.set(key, { generation, since: clock.now() });
  };
  const listeners = new Set<Parameters<UiView["subscribe"]>[0]>();
  const stack = new DisposableStack();
  stack.use(
    stageSets.subscribe(({ type, namespace, name, object }) => {
      if (type === "deleted") unobserved.delete(`${namespace}/${name}`);
      else note(object);
      for (const listener of listeners) listener({ kind: "StageSet", namespace, name });
    }),
  );
  stack.use(
    fleets.subscribe(({ name }) => {
      for (const listener of listeners) listener({ kind: "FleetRollout", namespace: "", name });
    }),
  );
  for (const stageSet of stageSets.list()) note(stageSet);
  const sourceOf = (target: SourceTarget, own: string): Lookup => {
    // Of other namespaces nothing is told but what the status says (spec 50 §1.4).
    if (sources === undefined || target.namespace !== own) return "unknown";
    const kind = target.mode === "direct" ? target.kind : "ExternalArtifact";
    if (sources.health(kind) !== "fresh") return "unknown";
    if (target.mode === "direct") return sources.get(kind, target.namespace, target.name) ?? "absent";
    return artifactsOf(target, sources.artifacts(target.namespace))[0] ?? "absent";
  };
  return {
    isSynced: () => stageSets.synced && fleets.synced,
    stageSets: () => stageSets.list(),
    stageSet: (namespace, name) => stageSets.get(namespace, name),
    fleets: () => fleets.list().filter((fleet) => fleet !== undefined),
    fleet: (name) => fleets.get("", name),
    input: (stageSet) => {
      const { namespace: own = "", name } = stageSet.metadata;
      return {
        stageSet,
        now: clock.now(),
        changedAt: unobserved.get(`${own}/${name}`)?.since,
        leaseRenewedAt: leaseRenewedAt(),
        stageSetOf: (namespace, other) =>
          namespace === own ? (stageSets.get(namespace, other) ?? "absent") : "unknown",
        sourceOf: (target) => sourceOf(target, own),
      };
    },
    subscribe: (listener) => {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    [Symbol.dispose]: () => stack.dispose(),
  };
}
