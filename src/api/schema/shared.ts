import {
  atomicList,
  choice,
  duration,
  type FieldOptions,
  flag,
  format,
  int32,
  int64,
  keyedList,
  list,
  object,
  optional,
  text,
  textMap,
  time,
} from "./field.ts";

const conditionTypePattern =
  "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";

export const sourceRef = (description: string) =>
  object(description, {
    apiVersion: optional(
      text("API version of the source. A kind that is not a Flux source needs one: its group finds the artifact.", {
        "x-default": "source.toolkit.fluxcd.io/v1",
      }),
    ),
    kind: optional(
      text(
        "Kind of the source. An ExternalArtifact, GitRepository, OCIRepository or Bucket of Flux is read itself; of any other kind, the ExternalArtifact that names it as its origin is read.",
        { "x-default": "ExternalArtifact" },
      ),
    ),
    name: text("Name of the source."),
    namespace: optional(text("Namespace of the source.", { "x-default": "the StageSet's" })),
  });

export const kindRef = (description: string) =>
  object(description, {
    apiVersion: optional(
      text("API version of the object.", {
        "x-default": "the one the target cluster prefers for the kind, core group first",
      }),
    ),
    kind: text("Kind of the object."),
    name: text("Name of the object."),
    namespace: optional(
      text("Namespace of the object; ignored for a cluster-scoped kind.", { "x-default": "the StageSet's" }),
    ),
  });

export const secretKeyRef = (description: string, keyOptions: FieldOptions = {}) =>
  object(description, {
    name: text("Name of the Secret, in the StageSet's namespace."),
    key: optional(text("Entry of the Secret that is read.", keyOptions)),
  });

export const localRef = (description: string) =>
  object(description, { name: text("Name of the object, in the StageSet's namespace.") });

export const labelSelector = (description: string) =>
  object(
    description,
    {
      matchLabels: optional(textMap("Labels the object must carry with exactly these values.")),
      matchExpressions: optional(
        atomicList(
          object("One requirement on a label; all must hold.", {
            key: text("Label key."),
            operator: text("How the label is compared: In, NotIn, Exists or DoesNotExist."),
            values: optional(
              atomicList(text("A label value."), "Values for In and NotIn; none for Exists and DoesNotExist."),
            ),
          }),
          "Requirements on labels; all must hold.",
        ),
      ),
    },
    { "x-kubernetes-map-type": "atomic" },
  );

export const threshold = (description: string) =>
  object(description, {
    min: optional(format("decimal", "Lowest value that passes, inclusive.")),
    max: optional(format("decimal", "Highest value that passes, inclusive.")),
  });

const tokenRef = () => localRef("Secret whose entry `token` is sent as bearer token.");

export const metricSource = (description: string) =>
  object(description, {
    prometheus: optional(
      object("Reads the value with a PromQL query.", {
        address: text("Base URL of the Prometheus API."),
        query: text("PromQL query that yields exactly one number."),
        secretRef: optional(tokenRef()),
      }),
    ),
    webhook: optional(
      object("Reads the value from the JSON a URL answers with.", {
        url: text("URL that is read with GET."),
        jsonPath: format("JSONPath", "Selects exactly one number, or one string that is a number, in the answer."),
        secretRef: optional(tokenRef()),
      }),
    ),
  });

export const errorBudget = (description: string) =>
  object(description, {
    source: metricSource(
      "Where the remaining budget is read: 1 is untouched, 0 spent, below 0 overspent. Exactly one of prometheus and webhook.",
    ),
    freezeThreshold: format("decimal", "Roll-outs freeze while the budget is strictly below this."),
    resumeThreshold: optional(
      format("decimal", "A frozen roll-out resumes at this value or above; not below freezeThreshold.", {
        "x-default": "freezeThreshold",
      }),
    ),
    onSourceError: optional(
      choice(["Allow", "Hold"], "What a source that cannot be read does to a roll-out.", { "x-default": "Allow" }),
    ),
    interval: optional(
      duration("How often the budget is read while frozen.", { "x-default": "retryInterval, else interval" }),
    ),
    dryRun: optional(flag("Records a freeze without holding anything.", { "x-default": "false" })),
  });

const condition = () =>
  object("What is known about one aspect of the object.", {
    type: text("Aspect the condition is about.", { maxLength: 316, pattern: conditionTypePattern }),
    status: choice(["True", "False", "Unknown"], "Whether the condition holds."),
    reason: text("Why, as one word for programs.", {
      minLength: 1,
      maxLength: 1024,
      pattern: "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
    }),
    message: text("Why, for people.", { maxLength: 32_768 }),
    lastTransitionTime: time("When the status last changed."),
    observedGeneration: optional(int64("Generation of the spec the condition was derived from.", { minimum: 0 })),
  });

export const conditionSchema = condition();

export const conditions = () =>
  keyedList(condition(), "type", "What is known about the object, one entry for each aspect.");

/** A freeze by an error budget, of the whole roll-out or of one stage. */
export const budgetFreeze = (description: string) =>
  object(description, {
    remaining: optional(format("decimal", "Budget at the last reading.")),
    freezeThreshold: optional(text("Threshold the budget fell below.")),
    resumeThreshold: optional(text("Threshold at which the freeze ends.")),
    since: optional(time("When the freeze began.")),
    dryRun: optional(flag("The freeze is only recorded, nothing is held.")),
    sourceErrors: optional(int32("Readings in a row that failed.")),
  });

export const snapshotStages = (description: string) =>
  list(
    object("One stage of the snapshot.", {
      stage: text("Name of the stage."),
      url: text("Where the artifact was fetched from."),
      digest: text("Digest of the artifact."),
      revision: optional(text("Revision of the artifact.")),
      substitutionDigest: optional(text("Digest of the variables that were substituted; keyed if any is secret.")),
      renderedDigest: optional(text("Digest of the rendered objects.")),
    }),
    description,
  );
