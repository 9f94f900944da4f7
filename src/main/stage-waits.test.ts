import { expect, test } from "vitest";
import type { StageSetSpec, StageSetStatus } from "../api/stage-set.ts";
import { createManualClock } from "../lib/clock.ts";
import type { Logger } from "../lib/telemetry.ts";
import { createStageWaits } from "./stage-waits.ts";

const key = { namespace: "shop", name: "shop" };
const spec: StageSetSpec = {
  stages: [{ name: "app", sourceRef: { kind: "ExternalArtifact", name: "app" }, readyChecks: { timeout: "5m" } }],
};
const entry = (phase: "Verifying" | "Ready"): StageSetStatus => ({ stages: [{ name: "app", phase }] });

function collect(): { readonly logger: Logger; readonly records: (readonly [string, unknown])[] } {
  const records: (readonly [string, unknown])[] = [];
  const none = (): void => undefined;
  const logger: Logger = {
    debug: none,
    warn: none,
    error: none,
    info: (message, fields) => void records.push([message, fields]),
    with: () => logger,
  };
  return { logger, records };
}

test("a stage that waits is said each minute past the first, with its deadline, until it is Ready", () => {
  const clock = createManualClock(Date.parse("2026-01-01T00:00:00Z"));
  const { logger, records } = collect();
  const ended: number[] = [];
  using waits = createStageWaits({ clock, logger: () => logger, ended: (seconds) => void ended.push(seconds) });
  waits.recorded(key, entry("Verifying"), spec);
  clock.advance(59_000);
  expect(records).toEqual([]);
  clock.advance(16_000);
  // Statuses that are written meanwhile do not begin the wait anew.
  waits.recorded(key, entry("Verifying"), spec);
  clock.advance(60_000);
  const message = "stage is still becoming ready; verify wait continues";
  const deadline = "2026-01-01T00:05:00.000Z";
  expect(records).toEqual([
    [message, { stage: "app", elapsed: "1m", timeout: "5m", deadline }],
    [message, { stage: "app", elapsed: "2m", timeout: "5m", deadline }],
  ]);
  waits.recorded(key, entry("Ready"), spec);
  expect(ended).toEqual([135]);
  clock.advance(300_000);
  expect(records).toHaveLength(2);
});
