import type { ResourceCache } from "../kube/cache.ts";
import { isAuthorizationRefusal } from "../kube/refusal.ts";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/telemetry.ts";

/** Unmet prerequisites are said again after this time (spec 60 §1). */
const sayEveryMs = 30_000;
const firstSayMs = 1_000;

export interface WatchedKind {
  /** `<plural>.<group>`. */
  readonly resource: string;
  readonly cache: Pick<ResourceCache<unknown>, "synced" | "problem">;
}

/** Says what keeps the controller from being ready, every 30 s, and once when all is there. */
export function reportPrerequisites(options: {
  readonly kinds: readonly WatchedKind[];
  readonly clock: Clock;
  readonly logger: Logger;
}): Disposable {
  const { kinds, clock, logger } = options;
  let said = false;
  let timer: Disposable | undefined;
  const look = (): void => {
    const unmet = kinds.filter(({ cache }) => !cache.synced);
    for (const { resource, cache } of unmet)
      logger.warn("waiting for a prerequisite", { resource, reason: reasonOf(cache) });
    said ||= unmet.length > 0;
    if (unmet.length > 0) timer = clock.timer(sayEveryMs, look);
    else if (said) logger.info("all prerequisites are met");
  };
  timer = clock.timer(firstSayMs, look);
  return { [Symbol.dispose]: () => timer?.[Symbol.dispose]() };
}

function reasonOf(cache: WatchedKind["cache"]): string {
  const problem = cache.problem();
  if (problem === undefined) return "not listed yet";
  if (problem.reason === "NotFound" || problem.reason === "NotServed") return "CRD is not installed";
  if (isAuthorizationRefusal(problem)) return `list or watch is denied: ${problem.message}`;
  return problem.message;
}
