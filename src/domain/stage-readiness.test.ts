import { describe, expect, test } from "vitest";
import type { KubeObject } from "../lib/kube-object.ts";
import { stageReadiness } from "./stage-readiness.ts";

const source: KubeObject = {
  apiVersion: "source.toolkit.fluxcd.io/v1",
  kind: "GitRepository",
  metadata: { name: "app", namespace: "ns" },
  status: {
    artifact: { revision: "v2", digest: "sha256:2", url: "http://x" },
    conditions: [{ type: "Ready", status: "False" }],
  },
};

interface Change {
  readonly metadata?: object;
  readonly spec?: object;
  readonly status?: object;
  readonly stage?: object;
}

function stageSet({ metadata = {}, spec = {}, status = {}, stage = {} }: Change = {}): KubeObject {
  return {
    apiVersion: "stages.metio.wtf/v1",
    kind: "StageSet",
    metadata: { name: "ss", namespace: "ns", generation: 3, ...metadata },
    spec: { stages: [{ name: "app", sourceRef: { kind: "GitRepository", name: "app" } }], ...spec },
    status: {
      observedGeneration: 3,
      lastAttemptedRevisions: { "ns/app": "v2" },
      stages: [{ name: "app", phase: "Ready", appliedRevision: "v2", appliedDigest: "sha256:2", ...stage }],
      ...status,
    },
  };
}

const withArtifact = (artifact: unknown): KubeObject => ({ ...source, status: { artifact } });

describe("rows of the predicate, the first false one gives the reason", () => {
  test.each<[string, string, KubeObject | undefined, KubeObject | undefined]>([
    ["all rows hold, though the source itself is not Ready", "ready", stageSet(), source],
    ["no StageSet", "NotFound", undefined, source],
    ["no such stage", "NotFound", stageSet({ spec: { stages: [{ name: "other" }] } }), source],
    ["deletion", "Deleting", stageSet({ metadata: { deletionTimestamp: "x" }, spec: { suspend: true } }), source],
    ["suspended", "Suspended", stageSet({ spec: { suspend: true }, status: { observedGeneration: 2 } }), source],
    [
      "spec changed after the status was written",
      "SpecPending",
      stageSet({ status: { observedGeneration: 2 } }),
      source,
    ],
    ["rollback under way", "RolledBack", stageSet({ status: { rollback: { phase: "InProgress" } } }), source],
    ["aborted at its gate", "RolledBack", stageSet({ stage: { promotionState: { abortedRevision: "v3" } } }), source],
    ["blocked at its gate", "Blocked", stageSet({ stage: { promotionState: { phase: "Blocked" } } }), source],
    ["soaking leaves it open", "ready", stageSet({ stage: { promotionState: { phase: "Soaking" } } }), source],
    ["phase is not Ready", "NotReady", stageSet({ stage: { phase: "Verifying" } }), source],
    ["no entry in status", "NotReady", stageSet({ status: { stages: [] } }), source],
    [
      "the source has a new revision",
      "RevisionPending",
      stageSet(),
      withArtifact({ revision: "v3", digest: "sha256:2" }),
    ],
    [
      "the revision was republished",
      "RevisionPending",
      stageSet(),
      withArtifact({ revision: "v2", digest: "sha256:9" }),
    ],
    ["no applied digest on record", "ready", stageSet({ stage: { appliedDigest: undefined } }), source],
    ["applied is not what was pinned", "RevisionPending", stageSet({ stage: { appliedRevision: "v1" } }), source],
    [
      "pinned is another",
      "RevisionPending",
      stageSet({ status: { lastAttemptedRevisions: { "ns/app": "v3" } } }),
      source,
    ],
    [
      "revisions keyed by kind",
      "ready",
      stageSet({ status: { lastAttemptedRevisions: { "ns/app/GitRepository": "v2" } } }),
      source,
    ],
    ["no source, or several", "RevisionPending", stageSet(), undefined],
    ["no artifact", "RevisionPending", stageSet(), withArtifact(undefined)],
    [
      "an empty revision counts as its digest",
      "ready",
      stageSet({
        status: { lastAttemptedRevisions: { "ns/app": "sha256:2" } },
        stage: { appliedRevision: "sha256:2" },
      }),
      withArtifact({ revision: "", digest: "sha256:2" }),
    ],
  ])("[40.35] %s → %s", (_what, wanted, object, offered) => {
    const answer = stageReadiness(object, "app", () => offered);
    expect(answer.kind === "ready" ? "ready" : answer.reason).toBe(wanted);
  });
});
