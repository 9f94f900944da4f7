import { choice, int32, list, object, optional, text, time } from "./field.ts";
import { conditions } from "./shared.ts";

export const stageLedgerSpecSchema = object("What is taken as done without having been run.", {
  baseline: optional(
    list(
      object("A Lifetime action that counts as completed.", {
        stage: text("Name of the stage."),
        action: text("Name of the action."),
      }),
      "Lifetime actions that count as completed.",
    ),
  ),
});

export const stageLedgerStatusSchema = object("Lifetime actions that never run again.", {
  completedActions: optional(
    list(
      object("A completed Lifetime action.", {
        stage: text("Name of the stage."),
        action: text("Name of the action."),
        origin: choice(["Executed", "Baselined"], "Whether the controller ran it or the baseline named it."),
        digest: optional(text("Digest of the action and its artifact, for audits.")),
        anchor: optional(
          object("Object that proved the completion.", {
            apiVersion: text("API version of the object."),
            kind: text("Kind of the object."),
            name: text("Name of the object."),
            uid: text("UID of the object."),
          }),
        ),
        completedAt: time("When it was completed."),
      }),
      "Completed Lifetime actions.",
    ),
  ),
  completedCount: optional(int32("Number of completed actions.")),
  conditions: optional(conditions()),
});
