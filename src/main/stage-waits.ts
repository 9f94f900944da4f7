import type { StageSetSpec, StageSetStatus } from "../api/stage-set.ts";
import type { StageSetKey } from "../engine/journal.ts";
import type { Clock } from "../lib/clock.ts";
import { verifyTimeoutMs } from "../domain/timing.ts";
import { formatDuration } from "../lib/duration.ts";
import type { Logger } from "../lib/telemetry.ts";

/** A stage that is still becoming ready is said again after this time (spec 60 §8). */
const sayEveryMs = 60_000;

/** How long stages wait to become ready, from the statuses that are written. One timer for all of them. */
export interface StageWaits extends Disposable {
  /** A status was written. */
  recorded(key: StageSetKey, status: StageSetStatus, spec: StageSetSpec | undefined): void;
  forget(key: StageSetKey): void;
}

interface Wait {
  readonly since: number;
  readonly timeoutMs: number;
  saidAt: number;
}

export function createStageWaits(options: {
  readonly clock: Clock;
  /** A logger for records about the StageSet. */
  readonly logger: (key: StageSetKey) => Logger;
  /** A stage is Ready after having waited. */
  readonly ended: (seconds: number) => void;
}): StageWaits {
  const { clock } = options;
  const waits = new Map<string, { readonly key: StageSetKey; readonly stages: Map<string, Wait> }>();
  let timer: Disposable | undefined;
  const look = (): void => {
    const now = clock.monotonic();
    for (const { key, stages } of waits.values())
      for (const [stage, wait] of stages) {
        if (now - wait.saidAt < sayEveryMs) continue;
        wait.saidAt = now;
        options.logger(key).info("stage is still becoming ready; verify wait continues", {
          stage,
          elapsed: formatDuration(Math.round((now - wait.since) / 1_000) * 1_000),
          timeout: formatDuration(wait.timeoutMs),
          deadline: new Date(clock.now() + wait.since + wait.timeoutMs - now).toISOString(),
        });
      }
    timer = waits.size === 0 ? undefined : clock.timer(sayEveryMs / 4, look);
  };
  return {
    recorded(key, status, spec) {
      const name = `${key.namespace}/${key.name}`;
      const now = clock.monotonic();
      const known = waits.get(name)?.stages ?? new Map<string, Wait>();
      const verifying = new Map<string, Wait>();
      for (const { name: stage, phase } of status.stages ?? []) {
        const before = known.get(stage);
        if (phase === "Ready" && before !== undefined) options.ended((now - before.since) / 1_000);
        if (phase !== "Verifying") continue;
        const of = spec?.stages.find((each) => each.name === stage);
        if (spec === undefined || of === undefined) continue;
        verifying.set(stage, before ?? { since: now, timeoutMs: verifyTimeoutMs(spec, of), saidAt: now });
      }
      if (verifying.size === 0) waits.delete(name);
      else waits.set(name, { key, stages: verifying });
      if (waits.size > 0) timer ??= clock.timer(sayEveryMs / 4, look);
    },
    forget: (key) => void waits.delete(`${key.namespace}/${key.name}`),
    [Symbol.dispose]: () => timer?.[Symbol.dispose](),
  };
}
