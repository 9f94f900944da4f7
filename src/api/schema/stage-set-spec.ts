import { actions } from "./action.ts";
import { choice, duration, flag, format, list, object, optional, text, time } from "./field.ts";
import { errorBudget, localRef, secretKeyRef, sourceRef } from "./shared.ts";
import { stage } from "./stage.ts";

const dependsOn = () =>
  list(
    object("A StageSet that must be ready first.", {
      name: text("Name of the StageSet."),
      namespace: optional(text("Namespace of the StageSet.", { "x-default": "the StageSet's own" })),
      minVersion: optional(format("version", "Lowest version the StageSet must have deployed.")),
    }),
    "StageSets that must be ready before this one starts.",
  );

const kubeConfig = () =>
  object(
    "Cluster the stages are applied to, if it is not the one the controller runs in: exactly one of configMapRef and secretRef.",
    {
      configMapRef: optional(
        localRef(
          "ConfigMap with the entries provider (aws, azure, gcp or generic), cluster, address, ca.crt, audiences and serviceAccountName.",
        ),
      ),
      secretRef: optional(secretKeyRef("Secret that holds a kubeconfig.", { "x-default": "value" })),
    },
    {
      "x-kubernetes-validations": [
        {
          rule: "has(self.configMapRef) != has(self.secretRef)",
          message: "exactly one of spec.kubeConfig.configMapRef and spec.kubeConfig.secretRef must be set",
        },
      ],
    },
  );

const decryption = () =>
  object("How encrypted files of the artifacts are decrypted.", {
    provider: choice(["sops"], "Format of the encrypted files."),
    secretRef: optional(localRef("Secret of private keys: entries `*.agekey` for age, `*.asc` for PGP.")),
  });

export const versionSpec = () =>
  object("Version of the product the stages deploy: exactly one of value, fromObject and fromArtifact.", {
    value: optional(format("version", "The version itself.")),
    fromObject: optional(
      object("Reads the version from an object a stage builds.", {
        stage: optional(text("Stage that builds the object.", { "x-default": "the first stage" })),
        kind: text("Kind of the object."),
        name: text("Name of the object."),
        apiVersion: optional(text("API version of the object.", { "x-default": "any" })),
        fieldPath: optional(
          format("JSONPath", "Where the version is; text and several expressions are joined.", {
            "x-default": "the label app.kubernetes.io/version",
          }),
        ),
      }),
    ),
    fromArtifact: optional(
      object("Reads the version from a file of a stage's artifact.", {
        stage: text("Stage whose artifact holds the file."),
        path: text("Path of the file, from the root of the artifact."),
      }),
    ),
    requireMigrationCoverage: optional(
      flag("Refuses to cross a major version upwards without a migration.", { "x-default": "false" }),
    ),
    approvalMode: optional(
      choice(
        ["Never", "OnMigrations", "Always"],
        "Which changes of version wait for an approval: none, those that run migrations, or all.",
        { "x-default": "Never" },
      ),
    ),
    allowDowngrade: optional(flag("Allows a version below the deployed one.", { "x-default": "false" })),
  });

export const migration = () =>
  object("Steps that run once when a version is crossed.", {
    name: text("Name of the migration, unique within the StageSet."),
    to: format("version", "Version the migration leads to; it runs when the deployed version is below."),
    from: optional(
      format("constraint", "Deployed versions the migration is for, such as `>=1.0.0 <1.4.0`.", {
        "x-default": "every version below `to`",
      }),
    ),
    stage: optional(
      text("Stage or migration anchor before which it runs; an anchor of that name comes first.", {
        "x-default": "the first stage",
      }),
    ),
    actions: optional(actions("Run in order on the way up.")),
    down: optional(actions("Run in order on the way down; without them the migration cannot be undone.")),
  });

export const versionSchema = versionSpec();
export const migrationSchema = migration();

const updateWindows = () =>
  list(
    object(
      "A time in which updates are allowed or denied: schedule and duration for a recurring one, from and to for a single one.",
      {
        type: choice(["Allow", "Deny"], "Whether updates are allowed or denied; Deny wins over Allow."),
        schedule: optional(format("cron", "When the window opens.")),
        duration: optional(duration("How long the window stays open.")),
        timeZone: optional(
          format("time zone", "IANA name of the zone the schedule is read in.", { "x-default": "UTC" }),
        ),
        from: optional(time("When the window opens, inclusive.")),
        to: optional(time("When the window closes, exclusive.")),
      },
    ),
    "Times in which updates are allowed or denied.",
  );

export const stageSetSpec = () =>
  object("The release: its stages and how they are rolled out.", {
    interval: optional(
      duration("How often the applied objects are asserted again.", {
        "x-default": "the controller's --default-interval, 10m",
      }),
    ),
    retryInterval: optional(
      duration("How soon the controller tries again after a failure and looks again in a hold.", {
        "x-default": "interval",
      }),
    ),
    driftDetectionInterval: optional(
      duration("How often drift is looked for, where it is to be more often than interval.", { "x-default": "none" }),
    ),
    timeout: optional(duration("How long a stage may take to become ready.", { "x-default": "15m" })),
    onTimeout: optional(
      choice(["Hold", "Rollback"], "What happens when that time is over and nothing has failed.", {
        "x-default": "Hold",
      }),
    ),
    suspend: optional(flag("Stops all work; deletion is never held up.", { "x-default": "false" })),
    dependsOn: optional(dependsOn()),
    serviceAccountName: optional(
      text("ServiceAccount that acts on the cluster and reads every Secret and ConfigMap the spec names.", {
        "x-default": "the controller's --default-service-account, else the controller itself",
      }),
    ),
    kubeConfig: optional(kubeConfig()),
    decryption: optional(decryption()),
    version: optional(versionSpec()),
    migrations: optional(list(migration(), "Migrations between versions; not together with migrationsSourceRef.")),
    migrationsSourceRef: optional(
      object("Artifact that holds the migrations.", {
        sourceRef: sourceRef("Source of the artifact, in the StageSet's namespace."),
        path: optional(text("Folder of the artifact.", { "x-default": "the root of the artifact" })),
      }),
    ),
    rollbackOnFailure: optional(flag("Restores what was last good when a run fails.", { "x-default": "false" })),
    onRollback: optional(
      actions("Run in order after a rollback has restored the manifests; their own failure changes nothing."),
    ),
    updateWindows: optional(updateWindows()),
    windowScope: optional(
      choice(["Updates", "All"], "What a closed window stops: only updates, or the correction of drift too.", {
        "x-default": "Updates",
      }),
    ),
    errorBudget: optional(errorBudget("Freezes the whole roll-out while a budget is spent.")),
    stages: list(stage(), "Stages in the order they are rolled out.", { minItems: 1 }),
  });

export const stageSetSpecSchema = stageSetSpec();
