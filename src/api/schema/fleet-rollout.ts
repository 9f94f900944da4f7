import {
  choice,
  duration,
  flag,
  format,
  int32,
  int64,
  keyedList,
  list,
  object,
  optional,
  text,
  time,
} from "./field.ts";
import { conditions, labelSelector, metricSource, threshold } from "./shared.ts";

export const fleetHealths = ["Passing", "Failing", "Unknown"] as const;

const wave = () =>
  object("StageSets that are updated together.", {
    name: text("Name of the wave, unique within the rollout."),
    selector: labelSelector("Members of the wave; an empty selector takes every member."),
    soak: optional(duration("How long the wave must stay good before the next one opens.", { "x-default": "0" })),
    gate: optional(
      object("Metric that must be within bounds before the next wave opens.", {
        source: metricSource(
          "Where the value is read: exactly one of prometheus and webhook, without secretRef, as there is no namespace to find the Secret in.",
        ),
        threshold: threshold("Bounds of the value; at least one."),
      }),
    ),
  });

export const fleetRolloutSpecSchema = object(
  "Which StageSets get a version, and in which order.",
  {
    targetVersion: optional(
      format("version", "Version that is rolled out.", {
        "x-default": "what each member's status.pendingVersion offers",
      }),
    ),
    selector: labelSelector("StageSets that are members; an empty selector takes every StageSet."),
    namespaceSelector: optional(
      labelSelector("Namespaces whose StageSets may be members; without it, those of every namespace."),
    ),
    waves: list(wave(), "Waves in the order they open; each member belongs to exactly one.", { minItems: 1 }),
    onRegression: optional(
      choice(["Halt", "Rollback"], "What happens when an updated member fails: stop, or lead the wave back.", {
        default: "Halt",
      }),
    ),
    previousVersion: optional(format("version", "Version a Rollback leads back to; required with it.")),
  },
  {
    "x-kubernetes-validations": [
      {
        rule: "self.onRegression != 'Rollback' || (has(self.previousVersion) && self.previousVersion != '')",
        message: "spec.previousVersion must be set when spec.onRegression is Rollback",
      },
    ],
  },
);

export const fleetRolloutStatusSchema = object("How far the rollout is.", {
  observedGeneration: optional(int64("Generation of the spec the status describes.")),
  phase: optional(text("Pending, InProgress, Halted or Completed.")),
  currentWave: optional(text("Wave that is open.")),
  waves: optional(
    keyedList(
      object("State of one wave.", {
        name: text("Name of the wave."),
        total: optional(int32("Members of the wave.")),
        atTarget: optional(int32("Members that run the version.")),
        ready: optional(int32("Members that are ready.")),
        settled: optional(flag("Every member runs the version and is ready.")),
        soakUntil: optional(time("When the soak ends.")),
        health: optional(choice(fleetHealths, "Verdict of the gate.")),
        settledVersion: optional(text("Version the wave has settled on.")),
        passedVersion: optional(text("Version the wave has passed with soak and gate.")),
      }),
      "name",
      "State of each wave.",
    ),
  ),
  rejectedVersions: optional(list(text("A version."), "Versions that failed and are not rolled out again.")),
  conditions: optional(conditions()),
});
