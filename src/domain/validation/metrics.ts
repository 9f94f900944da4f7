import type { MetricSource, StageSetSpec } from "../../api/stage-set.ts";
import { parseDecimal } from "../formats/decimal.ts";
import { parseJsonPath } from "../formats/json-path.ts";
import { deny, exactlyOneProblem, type Finding, inside, type Place, quote, type ValidationContext } from "./finding.ts";
import { errorBudgetsOf, metricSourcesOf } from "./places.ts";
import { type UrlContext, urlFindings } from "./urls.ts";

/** Bounds of a metric; both are inclusive. */
export interface Threshold {
  readonly min?: string;
  readonly max?: string;
}

const decimalWanted = 'want a decimal number such as "0.95"';

/** V22 and V23: metric sources and error budgets. */
export function* metricFindings(spec: StageSetSpec, context: ValidationContext): Generator<Finding> {
  for (const [place, source] of metricSourcesOf(spec)) yield* metricSourceFindings(place, source, context);
  for (const [place, { freezeThreshold, resumeThreshold }] of errorBudgetsOf(spec)) {
    yield* decimalFindings("V23", inside(place, "freezeThreshold"), freezeThreshold);
    yield* decimalFindings("V23", inside(place, "resumeThreshold"), resumeThreshold);
    const freeze = parseDecimal(freezeThreshold);
    const resume = resumeThreshold === undefined ? undefined : parseDecimal(resumeThreshold);
    if (freeze !== undefined && resume !== undefined && resume < freeze)
      yield deny(
        "V23",
        inside(place, "resumeThreshold"),
        `is ${quote(resumeThreshold ?? "")}, want at least freezeThreshold ${quote(freezeThreshold)}`,
      );
  }
}

/** V22: one metric source. */
export function* metricSourceFindings(place: Place, source: MetricSource, context: UrlContext): Generator<Finding> {
  const problem = exactlyOneProblem(source, ["prometheus", "webhook"]);
  if (problem !== undefined) yield deny("V22", place, problem);
  const { prometheus, webhook } = source;
  if (prometheus !== undefined) {
    const at = inside(place, "prometheus");
    yield* urlFindings("V22", inside(at, "address"), prometheus.address, context);
    if (prometheus.query === "") yield deny("V22", inside(at, "query"), "is empty, want a PromQL query");
  }
  if (webhook !== undefined) {
    const at = inside(place, "webhook");
    yield* urlFindings("V22", inside(at, "url"), webhook.url, context);
    const path = parseJsonPath(webhook.jsonPath);
    if (path.kind === "malformed")
      yield deny("V22", inside(at, "jsonPath"), `is ${quote(webhook.jsonPath)}, want a JSONPath: ${path.problem}`);
  }
}

/** A decimal that is set must be one. */
export function* decimalFindings(rule: Finding["rule"], place: Place, text: string | undefined): Generator<Finding> {
  if (text !== undefined && parseDecimal(text) === undefined)
    yield deny(rule, place, `is ${quote(text)}, ${decimalWanted}`);
}

/** V24 and V34: bounds of a metric. */
export function* thresholdFindings(rule: Finding["rule"], place: Place, { min, max }: Threshold): Generator<Finding> {
  if (min === undefined && max === undefined) yield deny(rule, place, "has no bound, want min, max or both");
  yield* decimalFindings(rule, inside(place, "min"), min);
  yield* decimalFindings(rule, inside(place, "max"), max);
  const [lowest, highest] = [min, max].map((text) => (text === undefined ? undefined : parseDecimal(text)));
  if (lowest !== undefined && highest !== undefined && lowest > highest)
    yield deny(rule, place, `has min ${quote(min ?? "")} above max ${quote(max ?? "")}, want min at most max`);
}
