import type { ResourceCache } from "../kube/cache.ts";
import { isAuthorizationRefusal } from "../kube/refusal.ts";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/telemetry.ts";

/** Unmet prerequisites are said again after this time (spec 60 §1). */
const sayEveryMs = 30_000;
const lookEveryMs = 1_000;

/** Something of the cluster the controller is not ready without. */
export interface Prerequisite {
  /** `<plural>.<group>`. */
  readonly resource: string;
  /** Why it is not met, in the operator's words; undefined once it is. */
  readonly unmet: () => string | undefined;
}

/** What is not met now, and why. */
export interface UnmetPrerequisite {
  readonly resource: string;
  readonly reason: string;
}

/** A kind that must be listed and watched. */
export function watchedKind(resource: string, cache: Pick<ResourceCache<unknown>, "synced" | "problem">): Prerequisite {
  return { resource, unmet: () => (cache.synced ? undefined : reasonOf(cache)) };
}

/** Says what keeps the controller from being ready, every 30 s, and once when all is there. */
export function reportPrerequisites(options: {
  readonly prerequisites: readonly Prerequisite[];
  /** Prerequisites of which only what is unmet is known. */
  readonly missing?: () => readonly UnmetPrerequisite[];
  readonly clock: Clock;
  readonly logger: Logger;
}): Disposable {
  const { prerequisites, clock, logger } = options;
  let saidAt = -Infinity;
  let timer: Disposable | undefined;
  const look = (): void => {
    const unmet: UnmetPrerequisite[] = prerequisites.flatMap(({ resource, unmet: why }) => {
      const reason = why();
      return reason === undefined ? [] : [{ resource, reason }];
    });
    unmet.push(...(options.missing?.() ?? []));
    if (unmet.length === 0) {
      if (saidAt > -Infinity) logger.info("all prerequisites are met");
      return;
    }
    timer = clock.timer(lookEveryMs, look);
    if (clock.monotonic() - saidAt < sayEveryMs) return;
    saidAt = clock.monotonic();
    for (const { resource, reason } of unmet) logger.warn("waiting for a prerequisite", { resource, reason });
  };
  timer = clock.timer(lookEveryMs, look);
  return { [Symbol.dispose]: () => timer?.[Symbol.dispose]() };
}

function reasonOf(cache: Pick<ResourceCache<unknown>, "problem">): string {
  const problem = cache.problem();
  if (problem === undefined) return "not listed yet";
  if (problem.reason === "NotFound" || problem.reason === "NotServed") return "CRD is not installed";
  if (isAuthorizationRefusal(problem)) return `list or watch is denied: ${problem.message}`;
  return problem.message;
}
