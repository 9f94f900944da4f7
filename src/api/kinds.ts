import type { TSchema } from "typebox";
import { fleetRolloutSpecSchema, fleetRolloutStatusSchema } from "./schema/fleet-rollout.ts";
import { imageVerificationPolicySpecSchema } from "./schema/image-verification-policy.ts";
import { stageInventorySpecSchema } from "./schema/stage-inventory.ts";
import { stageLedgerSpecSchema, stageLedgerStatusSchema } from "./schema/stage-ledger.ts";
import { stageSetSpecSchema } from "./schema/stage-set-spec.ts";
import { stageSetStatusSchema } from "./schema/stage-set-status.ts";

/** A column of `kubectl get`; one of priority 1 is shown with `-o wide` only. */
export interface PrinterColumn {
  readonly name: string;
  readonly type: "string" | "integer" | "date";
  readonly jsonPath: string;
  readonly priority?: 1;
}

/** What the API server has to know about a kind, spec 10 §1. */
export interface KindDefinition {
  readonly kind: string;
  /** As in URLs. */
  readonly plural: string;
  readonly scope: "Namespaced" | "Cluster";
  readonly shortNames: readonly string[];
  readonly description: string;
  /** In order of display. */
  readonly columns: readonly PrinterColumn[];
  readonly spec: TSchema;
  /** Present for a kind with a `/status` subresource. */
  readonly status?: TSchema;
}

const age: PrinterColumn = { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" };

function ready(member: "status" | "message" | "reason"): string {
  return `.status.conditions[?(@.type=="Ready")].${member}`;
}

/** Every kind of the group. */
export const kindDefinitions: readonly KindDefinition[] = [
  {
    kind: "StageSet",
    plural: "stagesets",
    scope: "Namespaced",
    shortNames: [],
    description:
      "A release that is shipped to a cluster stage by stage, each applied, verified and promoted before the next.",
    columns: [
      { name: "Ready", type: "string", jsonPath: ready("status") },
      { name: "Status", type: "string", jsonPath: ready("message") },
      age,
      { name: "Reason", type: "string", jsonPath: ready("reason"), priority: 1 },
      { name: "Version", type: "string", jsonPath: ".status.version", priority: 1 },
    ],
    spec: stageSetSpecSchema,
    status: stageSetStatusSchema,
  },
  {
    kind: "StageInventory",
    plural: "stageinventories",
    scope: "Namespaced",
    shortNames: [],
    description: "What a stage has applied. Written by the controller only: without it, nothing can be pruned.",
    columns: [{ name: "Stage", type: "string", jsonPath: ".metadata.labels.stages\\.metio\\.wtf/stage" }, age],
    spec: stageInventorySpecSchema,
  },
  {
    kind: "StageLedger",
    plural: "stageledgers",
    scope: "Namespaced",
    shortNames: ["sledger"],
    description: "Lifetime actions of the StageSet of the same name that never run again. It outlives the StageSet.",
    columns: [{ name: "Completed", type: "integer", jsonPath: ".status.completedCount", priority: 1 }, age],
    spec: stageLedgerSpecSchema,
    status: stageLedgerStatusSchema,
  },
  {
    kind: "FleetRollout",
    plural: "fleetrollouts",
    scope: "Cluster",
    shortNames: ["fleet"],
    description: "A new version for many StageSets, wave by wave.",
    columns: [
      { name: "Target", type: "string", jsonPath: ".spec.targetVersion" },
      { name: "Phase", type: "string", jsonPath: ".status.phase" },
      { name: "Wave", type: "string", jsonPath: ".status.currentWave" },
      age,
    ],
    spec: fleetRolloutSpecSchema,
    status: fleetRolloutStatusSchema,
  },
  {
    kind: "ImageVerificationPolicy",
    plural: "imageverificationpolicies",
    scope: "Cluster",
    shortNames: ["ivp"],
    description: "Images that may be deployed only with a signature of a known signer.",
    columns: [{ name: "Images", type: "string", jsonPath: ".spec.images" }, age],
    spec: imageVerificationPolicySpecSchema,
  },
];
