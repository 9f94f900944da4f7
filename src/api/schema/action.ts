import { choice, duration, flag, format, int32, list, object, optional, text } from "./field.ts";
import { kindRef, labelSelector, secretKeyRef, sourceRef } from "./shared.ts";

const patchTarget = () =>
  object("Object or objects that are patched: exactly one of name and selector.", {
    apiVersion: optional(
      text("API version of the target.", { "x-default": "the one the target cluster prefers for the kind" }),
    ),
    kind: text("Kind of the target."),
    namespace: optional(text("Namespace of the target.", { "x-default": "the StageSet's" })),
    name: optional(text("Name of the one target.")),
    selector: optional(labelSelector("Labels of the targets.")),
  });

const patch = () =>
  object("Patches objects of the target cluster.", {
    target: patchTarget(),
    type: optional(
      choice(
        ["merge", "json6902"],
        "`merge` is a strategic merge patch where the kind supports it and a JSON merge patch elsewhere; `json6902` is a list of JSON patch operations.",
        { "x-default": "merge" },
      ),
    ),
    patch: text("The patch, as YAML or JSON."),
  });

const http = () =>
  object("Sends an HTTP request.", {
    url: text("URL of the request; its host must be allowed for actions."),
    method: optional(
      choice(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"], "Method of the request.", { "x-default": "POST" }),
    ),
    body: optional(text("Body of the request.")),
    bodyFrom: optional(secretKeyRef("Secret entry sent as body; it replaces `body`.")),
    headersFrom: optional(
      list(
        secretKeyRef("Secret entry sent as header: the key is its name, the entry its value."),
        "Headers read from Secrets.",
      ),
    ),
    expectedStatus: optional(
      list(int32("A status code.", { minimum: 100, maximum: 599 }), "Status codes that count as success.", {
        "x-default": "any 2xx",
      }),
    ),
  });

const wait = () =>
  object("Waits for a time, or until an object satisfies an expression.", {
    duration: optional(duration("How long to wait; it replaces `expr`.")),
    target: optional(kindRef("Object the expression is evaluated over.")),
    expr: optional(format("CEL", "Condition that ends the wait.")),
    timeout: optional(duration("How long the expression may stay false.", { "x-default": "5m" })),
  });

const job = () =>
  object("Runs the Jobs of an artifact and waits until they finish.", {
    sourceRef: sourceRef("Artifact that holds the Jobs."),
    path: optional(text("Folder of the artifact.", { "x-default": "./" })),
  });

const deletion = () =>
  object("Deletes an object; one that is not there is fine.", {
    target: kindRef("Object that is deleted."),
    cascade: optional(
      choice(["Background", "Foreground", "Orphan"], "What happens to the objects it owns.", {
        "x-default": "Background",
      }),
    ),
  });

const apply = () =>
  object("Applies the objects of an artifact without recording them in the inventory.", {
    sourceRef: sourceRef("Artifact that holds the objects."),
    path: optional(text("Folder of the artifact.", { "x-default": "./" })),
    wait: optional(flag("Waits until the objects are ready.", { "x-default": "false" })),
  });

const completionAnchor = () =>
  object(
    "Object whose existence proves that a Lifetime action's effect still exists; recreated, the action runs again. It lives in the StageSet's namespace.",
    {
      apiVersion: text("API version of the object."),
      kind: text("Kind of the object."),
      name: text("Name of the object."),
    },
  );

export const action = () =>
  object("One action: exactly one of patch, http, wait, job, delete and apply.", {
    name: text("Name of the action, by which ledgers, status and events know it."),
    scope: optional(
      choice(
        ["Revision", "Version", "Lifetime"],
        "How often the action runs: once for each revision of the stage, once for each version, or once ever. Only for pre and post actions.",
        { "x-default": "Revision" },
      ),
    ),
    timeout: optional(
      duration("Bound of all attempts together.", {
        "x-default": "job 10m; apply with wait, delete, and wait on an expression 5m; http 30s for each attempt",
      }),
    ),
    retries: optional(
      int32("Further attempts after a failed one; at most 10 for an action of a migration.", {
        minimum: 0,
        maximum: 100,
        "x-default": "0",
      }),
    ),
    patch: optional(patch()),
    http: optional(http()),
    wait: optional(wait()),
    job: optional(job()),
    delete: optional(deletion()),
    apply: optional(apply()),
    completionAnchor: optional(completionAnchor()),
  });

export const actionSchema = action();

export const actions = (description: string) => list(action(), description);
