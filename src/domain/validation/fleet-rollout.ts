import { parseFleetRollout, type FleetRolloutSpec, type Wave } from "../../api/fleet-rollout.ts";
import type { LabelSelector } from "../../api/stage-set.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import { selectorProblems, selectsEverything } from "../formats/label-selector.ts";
import { compareVersions, parseVersion } from "../formats/version.ts";
import { deny, type Finding, inside, nameFindings, type Place, quote, root, warn } from "./finding.ts";
import { metricSourceFindings, thresholdFindings } from "./metrics.ts";
import { aboutReadItems } from "./unread-items.ts";
import { renderReview, type Review } from "./validate-stored.ts";

/** What the rules about fleets need to know beside the spec. */
export interface FleetContext {
  readonly allowLoopback: boolean;
  readonly isAllowedHost?: (host: string) => boolean;
}

/** Everything that can be said about a FleetRollout as it is sent or stored, whatever it holds. */
export function reviewFleetRollout(object: KubeObject, context: FleetContext): Review {
  const parsed = parseFleetRollout(object);
  const spec = parsed.kind === "valid" ? parsed.value.spec : parsed.readable?.spec;
  const found = spec === undefined ? [] : [...fleetFindings(spec, context)];
  return parsed.kind === "valid"
    ? renderReview([], found)
    : renderReview(parsed.violations, aboutReadItems(found, { stored: object["spec"], read: spec }));
}

/** V33 and V34: a rollout that fits the schema. */
export function* fleetFindings(spec: FleetRolloutSpec, context: FleetContext): Generator<Finding> {
  yield* versionFindings(spec);
  yield* selectorFindings(inside(root, "selector"), spec.selector);
  if (selectsEverything(spec.selector))
    yield warn("V33", inside(root, "selector"), "is empty, and so selects every StageSet");
  if (spec.namespaceSelector !== undefined)
    yield* selectorFindings(inside(root, "namespaceSelector"), spec.namespaceSelector);
  const waves = spec.waves.map((wave, index) => ({
    place: inside(inside(root, "waves"), `[${index}]`, `wave ${quote(wave.name)}`),
    wave,
  }));
  yield* nameFindings(
    "V33",
    waves.map(({ place, wave }) => [inside(place, "name"), wave.name] as const),
  );
  for (const { place, wave } of waves) {
    yield* selectorFindings(inside(place, "selector"), wave.selector);
    if (wave.gate !== undefined) yield* gateFindings(inside(place, "gate"), wave.gate, context);
  }
}

function* versionFindings({ targetVersion, previousVersion, onRegression }: FleetRolloutSpec): Generator<Finding> {
  const previous = inside(root, "previousVersion");
  const wanted = 'want a version such as "1.2.0"';
  const [target, before] = [targetVersion, previousVersion].map((text) =>
    text === undefined ? undefined : parseVersion(text),
  );
  if (targetVersion !== undefined && target === undefined)
    yield deny("V33", inside(root, "targetVersion"), `is ${quote(targetVersion)}, ${wanted}`);
  if (previousVersion !== undefined && before === undefined)
    yield deny("V33", previous, `is ${quote(previousVersion)}, ${wanted}`);
  if (target !== undefined && before !== undefined && compareVersions(before, target) >= 0)
    yield deny("V33", previous, `is ${quote(previousVersion ?? "")}, want one below ${quote(targetVersion ?? "")}`);
  if (onRegression === "Rollback" && previousVersion === undefined)
    yield deny("V33", previous, 'is missing while onRegression is "Rollback", want the version to go back to');
}

function* selectorFindings(place: Place, selector: LabelSelector): Generator<Finding> {
  for (const { path, message } of selectorProblems(selector)) yield deny("V33", inside(place, path), message);
}

function* gateFindings(
  place: Place,
  { source, threshold }: NonNullable<Wave["gate"]>,
  context: FleetContext,
): Generator<Finding> {
  const at = inside(place, "source");
  yield* metricSourceFindings(at, source, context);
  for (const provider of ["prometheus", "webhook"] as const) {
    const secret = source[provider]?.secretRef;
    if (secret !== undefined)
      yield deny(
        "V34",
        inside(inside(at, provider), "secretRef"),
        `names ${quote(secret.name)}, want none: a FleetRollout has no namespace to find the Secret in`,
      );
  }
  yield* thresholdFindings("V34", inside(place, "threshold"), threshold);
}
