import { actions } from "./action.ts";
import { choice, duration, flag, format, list, object, optional, text, textMap } from "./field.ts";
import { promotion } from "./promotion.ts";
import { errorBudget, kindRef, sourceRef } from "./shared.ts";

const conflictActions = ["Fail", "Recreate", "KeepExisting"] as const;

const conflictPolicy = () =>
  object("What happens when an object cannot be changed in place; the first rule that matches decides.", {
    default: optional(
      choice(
        conflictActions,
        "For objects no rule matches: fail the stage, delete and create the object anew, or leave it as it is.",
        { default: "Fail" },
      ),
    ),
    rules: optional(
      list(
        object("What happens to the objects of a target.", {
          target: object("Objects the rule is for; a member that is not set matches everything.", {
            apiVersion: optional(text("API version of the objects.")),
            kind: optional(text("Kind of the objects.")),
            name: optional(text("Name of the objects.")),
            namespace: optional(text("Namespace of the objects.")),
          }),
          action: choice(conflictActions, "Fail the stage, delete and create the object anew, or leave it as it is."),
          allowDataLoss: optional(
            flag("Lets Recreate delete a PersistentVolumeClaim or PersistentVolume.", { "x-default": "false" }),
          ),
        }),
        "Rules in the order they are tried.",
      ),
    ),
  });

const patches = () =>
  list(
    object("One kustomize patch.", {
      patch: text("Strategic merge patch or list of JSON patch operations, as YAML or JSON."),
      target: optional(
        object("Objects that are patched; without it the patch names its object itself.", {
          group: optional(text("API group, as an anchored regular expression.")),
          version: optional(text("API version, as an anchored regular expression.")),
          kind: optional(text("Kind, as an anchored regular expression.")),
          name: optional(text("Name, as an anchored regular expression.")),
          namespace: optional(text("Namespace, as an anchored regular expression.")),
          labelSelector: optional(text("Labels, written as kubectl's --selector.")),
          annotationSelector: optional(text("Annotations, written as kubectl's --selector.")),
        }),
      ),
    }),
    "Kustomize patches, applied in order.",
  );

const postBuild = () =>
  object("Variables that are substituted in the built objects.", {
    substitute: optional(textMap("Values by variable name; they win over those of substituteFrom.")),
    substituteFrom: optional(
      list(
        object("A ConfigMap or Secret of values.", {
          kind: choice(["ConfigMap", "Secret"], "Kind of the object."),
          name: text("Name of the object, in the StageSet's namespace."),
          optional: optional(flag("An object that is not there is fine.", { "x-default": "false" })),
        }),
        "Objects that hold values; later ones win over earlier ones.",
      ),
    ),
  });

const readyChecks = () =>
  object("What is waited for after the stage is applied.", {
    timeout: optional(
      duration("How long the stage may take to become ready.", { "x-default": "the stage's timeout, else the spec's" }),
    ),
    disableWait: optional(
      flag("Does not wait for the applied objects, only for checks and exprs.", { "x-default": "false" }),
    ),
    checks: optional(list(kindRef("An object that must be ready."), "Further objects that must be ready.")),
    exprs: optional(
      list(
        object("How readiness is read from the objects of a kind.", {
          apiVersion: text("API version of the objects."),
          kind: text("Kind of the objects."),
          current: optional(format("CEL", "True once the object is ready.")),
          inProgress: optional(format("CEL", "True while the object may still become ready.")),
          failed: optional(format("CEL", "True when the object has failed.")),
        }),
        "Expressions that decide readiness by kind.",
      ),
    ),
  });

export const stage = () =>
  object("One step of the release: it starts when the stage before is applied, ready and promoted.", {
    name: text(
      "Name of the stage, unique within the StageSet; at most 63 characters, because it becomes a label value.",
      { pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", maxLength: 63 },
    ),
    migrationAnchor: optional(text("Role name that migrations may name instead of the stage.")),
    sourceRef: sourceRef("Artifact that holds the manifests."),
    path: optional(
      text("Folder of the artifact that is built; a slash at the start is ignored.", { "x-default": "./" }),
    ),
    serviceAccountName: optional(
      text("ServiceAccount that applies, prunes, verifies and runs the actions of this stage.", {
        "x-default": "spec.serviceAccountName",
      }),
    ),
    prune: optional(
      flag("Deletes objects that left the stage, and all of them when the StageSet is deleted.", {
        "x-default": "true",
      }),
    ),
    timeout: optional(duration("How long the stage may take to become ready.", { "x-default": "spec.timeout" })),
    onTimeout: optional(
      choice(["Hold", "Rollback"], "What happens when that time is over and nothing has failed.", {
        "x-default": "spec.onTimeout",
      }),
    ),
    force: optional(
      flag("Recreates objects that cannot be changed in place; ignored when conflictPolicy is set.", {
        "x-default": "false",
      }),
    ),
    conflictPolicy: optional(conflictPolicy()),
    applyHelmHookResources: optional(
      flag("Applies objects that are Helm hooks like any other; false leaves them out.", { "x-default": "true" }),
    ),
    patches: optional(patches()),
    postBuild: optional(postBuild()),
    actions: optional(
      object("Actions around the stage.", {
        pre: optional(actions("Run in order before the stage is applied.")),
        post: optional(actions("Run in order once the stage is ready.")),
        onFailure: optional(actions("Run in order when the stage fails; their own failure changes nothing.")),
      }),
    ),
    readyChecks: optional(readyChecks()),
    promotion: optional(promotion("What must hold before the next stage starts.")),
    errorBudget: optional(errorBudget("Keeps new revisions out of this stage while a budget is spent.")),
  });

export const stageSchema = stage();
