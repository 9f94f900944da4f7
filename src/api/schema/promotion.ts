import { choice, duration, flag, format, int32, keyedList, list, object, optional, text } from "./field.ts";
import { labelSelector, metricSource, threshold } from "./shared.ts";

const onGateFailure = (description: string, fallback: string) =>
  optional(choice(["Hold", "Rollback"], description, { "x-default": fallback }));

const analysis = () =>
  object("Metrics that must stay within bounds before the next stage starts.", {
    checks: list(
      object("One metric and its bounds.", {
        name: text("Name of the check, unique within the analysis."),
        source: metricSource("Where the value is read: exactly one of prometheus and webhook."),
        threshold: threshold("Bounds of the value; at least one."),
      }),
      "Metrics that are evaluated; all must pass.",
      { minItems: 1 },
    ),
    interval: optional(
      duration("Time between two evaluations.", { "x-default": "spec.retryInterval, else spec.interval" }),
    ),
    failureLimit: optional(int32("Failed evaluations in a row that are tolerated.", { minimum: 0, "x-default": "0" })),
    onFailure: onGateFailure("What happens once the limit is exceeded.", "Hold"),
    onSourceError: optional(
      choice(["Hold", "Allow"], "What a metric that cannot be read counts as.", { "x-default": "Hold" }),
    ),
    dryRun: optional(flag("Evaluates and records without holding.", { "x-default": "false" })),
  });

const fastTrack = () =>
  object("Ends the soak early when a metric is good.", {
    source: metricSource("Where the value is read: exactly one of prometheus and webhook."),
    max: format("decimal", "The soak ends once the value is this or less."),
    after: optional(duration("Part of the soak that always passes first.", { "x-default": "0" })),
  });

const podSelector = () => labelSelector("Pods of the StageSet's namespace that are watched; not empty.");

const restartGate = () =>
  object("Blocks promotion when containers restart.", {
    onFailure: onGateFailure("What too many restarts do.", "Hold"),
    checks: keyedList(
      object("Pods and the restarts they may have.", {
        name: text("Name of the check, unique within the gate."),
        selector: podSelector(),
        maxRestarts: optional(
          int32("Restarts since the revision was applied that are tolerated.", { minimum: 0, "x-default": "0" }),
        ),
        onFailure: onGateFailure("What too many restarts do, for this check.", "the gate's"),
      }),
      "name",
      "Pods that are watched; all checks must pass.",
    ),
  });

const eventGate = () =>
  object("Blocks promotion when pods get Warning events.", {
    onFailure: onGateFailure("What too many events do.", "Hold"),
    checks: keyedList(
      object("Pods and the Warning events they may get.", {
        name: text("Name of the check, unique within the gate."),
        selector: podSelector(),
        reasons: list(text("Reason of an event, such as BackOff."), "Reasons of the events that count.", {
          minItems: 1,
        }),
        maxEvents: optional(
          int32("Events since the revision was applied that are tolerated.", { minimum: 0, "x-default": "0" }),
        ),
        onFailure: onGateFailure("What too many events do, for this check.", "the gate's"),
      }),
      "name",
      "Pods that are watched; all checks must pass.",
    ),
  });

export const promotion = (description: string) =>
  object(description, {
    soak: optional(duration("Time the stage must stay ready.", { "x-default": "none" })),
    requireManualPromotion: optional(
      flag("Holds until somebody promotes the stage by annotation.", { "x-default": "false" }),
    ),
    analysis: optional(analysis()),
    fastTrack: optional(fastTrack()),
    restartGate: optional(restartGate()),
    eventGate: optional(eventGate()),
  });
