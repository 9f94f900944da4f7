import type { LabelSelector, Stage, StageSetSpec } from "../../api/stage-set.ts";
import { durationMs } from "../../lib/duration.ts";
import { selectorProblems, selectsEverything } from "../formats/label-selector.ts";
import { deny, type Finding, inside, nameFindings, type Place, quote, warn } from "./finding.ts";
import { decimalFindings, thresholdFindings } from "./metrics.ts";
import { stagesOf } from "./places.ts";

type Promotion = NonNullable<Stage["promotion"]>;

/** V24 to V26: what must hold between two stages. */
export function* promotionFindings(spec: StageSetSpec): Generator<Finding> {
  for (const [stagePlace, { promotion }] of stagesOf(spec)) {
    if (promotion === undefined) continue;
    const place = inside(stagePlace, "promotion");
    if (promotion.analysis !== undefined) yield* analysisFindings(inside(place, "analysis"), promotion.analysis);
    if (promotion.fastTrack !== undefined) yield* fastTrackFindings(place, promotion, promotion.fastTrack);
    if (promotion.restartGate !== undefined)
      yield* gateFindings(inside(place, "restartGate"), promotion.restartGate.checks);
    if (promotion.eventGate === undefined) continue;
    yield* gateFindings(inside(place, "eventGate"), promotion.eventGate.checks);
    for (const [index, { reasons }] of promotion.eventGate.checks.entries())
      if (reasons.length === 0)
        yield deny(
          "V26",
          inside(inside(inside(inside(place, "eventGate"), "checks"), `[${index}]`), "reasons"),
          "is empty, want at least one reason",
        );
  }
}

function* analysisFindings(place: Place, { checks }: NonNullable<Promotion["analysis"]>): Generator<Finding> {
  const items = checks.map((check, index) => ({ at: inside(inside(place, "checks"), `[${index}]`), check }));
  if (items.length === 0) yield deny("V24", inside(place, "checks"), "is empty, want at least one check");
  yield* nameFindings(
    "V24",
    items.map(({ at, check }) => [inside(at, "name"), check.name] as const),
  );
  for (const { at, check } of items) {
    yield* thresholdFindings("V24", inside(at, "threshold", `check ${quote(check.name)}`), check.threshold);
  }
}

function* fastTrackFindings(
  place: Place,
  { soak }: Promotion,
  { max, after }: NonNullable<Promotion["fastTrack"]>,
): Generator<Finding> {
  const fastTrack = inside(place, "fastTrack");
  const soakMs = soak === undefined ? 0 : (durationMs(soak) ?? 0);
  if (soakMs <= 0)
    yield deny("V25", fastTrack, `is set while soak is ${quote(soak ?? "")}, want a soak above 0 to be ended early`);
  yield* decimalFindings("V25", inside(fastTrack, "max"), max);
  if (after !== undefined && soakMs > 0 && (durationMs(after) ?? 0) >= soakMs)
    yield warn("V25", inside(fastTrack, "after"), `is ${quote(after)}, not below soak ${quote(soak ?? "")}`);
}

function* gateFindings(
  place: Place,
  checks: readonly { readonly name: string; readonly selector: LabelSelector }[],
): Generator<Finding> {
  const items = checks.map((check, index) => ({ at: inside(inside(place, "checks"), `[${index}]`), check }));
  if (items.length === 0) yield deny("V26", inside(place, "checks"), "is empty, want at least one check");
  yield* nameFindings(
    "V26",
    items.map(({ at, check }) => [inside(at, "name"), check.name] as const),
  );
  for (const { at, check } of items) {
    const selector = inside(at, "selector", `check ${quote(check.name)}`);
    if (selectsEverything(check.selector)) yield deny("V26", selector, "is empty, want at least one requirement");
    for (const { path, message } of selectorProblems(check.selector))
      yield deny("V26", inside(selector, path), message);
  }
}
