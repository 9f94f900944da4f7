import { artifactsOf, type SourceTarget } from "../domain/pins.ts";
import { stageNames, stageReadiness, type StageReadiness } from "../domain/stage-readiness.ts";
import type { CacheHealth, ResourceCache } from "../kube/cache.ts";
import type { KubeClient } from "../kube/client.ts";
import type { Discovery } from "../kube/discovery.ts";
import type { ApiResource } from "../kube/request.ts";
import type { Clock } from "../lib/clock.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { MetricLabels } from "../lib/telemetry.ts";
import { createConfirmations } from "./confirmations.ts";

/** What is watched of Flux' sources. */
export interface SourceCaches {
  get(kind: string, namespace: string, name: string): KubeObject | undefined;
  artifacts(namespace: string): readonly KubeObject[];
  health(kind: string): CacheHealth;
}

export interface GateViewOptions {
  readonly client: KubeClient;
  readonly discovery: Discovery;
  readonly stageSetResource: ApiResource;
  readonly stageSets: ResourceCache<KubeObject>;
  readonly sources: SourceCaches;
  /** Undefined: all. */
  readonly namespaces: readonly string[] | undefined;
  readonly clock: Clock;
}

/** Stage readiness for gate and gauge, from this replica's caches and, for open answers, live reads (spec 40 §8.2). */
export interface GateView {
  readiness(
    name: { readonly namespace: string; readonly stageSet: string; readonly stage: string },
    o: { readonly signal: AbortSignal },
  ): Promise<StageReadiness | "undetermined">;
  /** Every stage is ready as far as the caches tell. */
  isReady(stageSet: KubeObject): boolean;
  /** Series of `stageset_stage_ready`; none while the caches cannot be trusted. */
  series(): Iterable<readonly [MetricLabels, number]>;
}

export function createGateView(options: GateViewOptions): GateView {
  const { stageSets, sources, namespaces } = options;
  const scope = namespaces === undefined ? undefined : new Set(namespaces);
  const confirmations = createConfirmations(options);

  /** Undefined: the caches cannot tell. */
  const cached = (stageSet: KubeObject | undefined, stage: string): StageReadiness | undefined => {
    if (stageSets.health() !== "fresh") return undefined;
    const sourceTrust = { fresh: true };
    const answer = stageReadiness(stageSet, stage, (target) => {
      const inScope = scope === undefined || scope.has(target.namespace);
      const kind = target.mode === "direct" ? target.kind : "ExternalArtifact";
      if (!inScope || sources.health(kind) !== "fresh") sourceTrust.fresh = false;
      return cachedSource(sources, target);
    });
    return sourceTrust.fresh ? answer : undefined;
  };
  return {
    async readiness({ namespace, stageSet, stage }, { signal }) {
      const outOfScope = scope !== undefined && !scope.has(namespace);
      if (outOfScope || !isName(namespace) || !isName(stageSet))
        return stageReadiness(undefined, stage, () => undefined);
      const answer = cached(stageSets.get(namespace, stageSet), stage);
      if (answer?.kind === "closed") return answer;
      return confirmations.confirm({ namespace, stageSet, stage }, { signal });
    },
    isReady: (stageSet) => stageNames(stageSet).every((stage) => cached(stageSet, stage)?.kind === "ready"),
    *series() {
      for (const stageSet of stageSets.list()) {
        const namespace = stageSet.metadata.namespace ?? "";
        for (const stage of stageNames(stageSet)) {
          const answer = cached(stageSet, stage);
          if (answer === undefined) continue;
          yield [{ namespace, stageset: stageSet.metadata.name, stage }, answer.kind === "ready" ? 1 : 0];
        }
      }
    },
  };
}

/** Whether an object or a namespace may be called so at all (RFC 1123 subdomain); what may not is not worth a read. */
function isName(text: string): boolean {
  return text.length <= 253 && /^[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?$/.test(text);
}

function cachedSource(sources: SourceCaches, target: SourceTarget): KubeObject | undefined {
  if (target.mode === "direct") return sources.get(target.kind, target.namespace, target.name);
  const matching = artifactsOf(target, sources.artifacts(target.namespace));
  return matching.length === 1 ? matching[0] : undefined;
}
