import type { MetricAnswer } from "../../domain/metrics/metric-answer.ts";
import { credentialIdentity } from "../../domain/pass/plan.ts";
import type { Fact, FactKey } from "../../domain/pass/state.ts";
import { analysisIntervalMs, fastTrackTimes } from "../../domain/promotion/analysis.ts";
import { stageEntry } from "../../domain/status.ts";
import { retryMs } from "../../domain/timing.ts";
import type { Engine } from "../engine.ts";
import { statusOf } from "../journal.ts";
import type { MetricQuestion } from "../metrics/metric-readings.ts";
import type { Pass } from "../pass.ts";

type Key = Extract<FactKey, { kind: "gateMetrics" }>;

/** Asks what is due at the gate, all at once; what has no answer yet wakes the StageSet when it has. Never waits. */
export function readGateMetrics(engine: Engine, pass: Pass, key: Key): Promise<Fact> {
  const { spec } = pass.snapshot;
  const stage = spec?.stages.find((candidate) => candidate.name === key.stage);
  if (spec === undefined || stage?.promotion === undefined) throw new RangeError(`no gate of stage "${key.stage}"`);
  const { promotion } = stage;
  const as = credentialIdentity(spec, stage, engine.options);
  const ask = (question: Omit<MetricQuestion, "as">): MetricAnswer | undefined =>
    engine.metrics.latest(pass.key, { ...question, as })?.answer;
  const retry = retryMs(spec, engine.options.defaultIntervalMs);
  const checks = key.analysis ? (promotion.analysis?.checks ?? []) : [];
  const maxAgeMs = promotion.analysis === undefined ? 0 : analysisIntervalMs(promotion.analysis, retry);
  const answers = checks.map(({ name, source }) => ask({ name: `analysis ${stage.name} ${name}`, source, maxAgeMs }));
  const known = answers.filter((answer) => answer !== undefined);
  const analysis = key.analysis && known.length === checks.length ? known : undefined;
  return Promise.resolve({ kind: "gateMetrics", metrics: { analysis, fastTrack: fastTrackAnswer() } });

  function fastTrackAnswer(): MetricAnswer | undefined {
    const object = engine.journal.object(pass.key);
    const gate = object === undefined ? undefined : stageEntry(statusOf(object), key.stage)?.promotionState;
    const times = fastTrackTimes(promotion, gate ?? {});
    if (!key.fastTrack || promotion.fastTrack === undefined || times === undefined) return undefined;
    return ask({ name: `fastTrack ${key.stage}`, source: promotion.fastTrack.source, maxAgeMs: times.everyMs });
  }
}
