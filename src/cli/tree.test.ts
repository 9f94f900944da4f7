import { expect, test } from "vitest";
import { stageSetPage } from "../domain/why/view.ts";
import { renderTree } from "./tree.ts";

const now = Date.parse("2026-03-01T14:22:40Z");
const page = stageSetPage({
  now,
  stageSet: {
    apiVersion: "stages.metio.wtf/v1",
    kind: "StageSet",
    metadata: { name: "web", namespace: "apps", generation: 1 },
    spec: {
      timeout: "5m",
      stages: ["crds", "app", "canary", "prod"].map((name) => ({ name, sourceRef: { name: "web" }, promotion: {} })),
    },
    status: {
      observedGeneration: 1,
      version: "1.4.0",
      pendingVersion: "1.5.0",
      conditions: [
        {
          type: "Ready",
          status: "Unknown",
          reason: "Progressing",
          message: "",
          lastTransitionTime: "2026-03-01T14:20:00Z",
        },
      ],
      stages: [
        { name: "crds", phase: "Ready", entriesCount: 12 },
        {
          name: "app",
          phase: "Verifying",
          entriesCount: 2,
          waitingFor: [
            {
              kind: "Deployment",
              name: "web",
              namespace: "apps",
              status: "InProgress",
              message: "3/5 updated",
              since: "2026-03-01T14:21:38Z",
            },
            { kind: "Job", name: "j\u001b[2J", namespace: "apps", status: "InProgress" },
          ],
        },
        { name: "canary", phase: "Ready", promotionState: { phase: "Soaking", soakUntil: "2026-03-01T14:32:10Z" } },
        { name: "prod", phase: "Pending" },
      ],
    },
  },
});

test("a tree of stages, what they wait for and how long that may take", () => {
  expect(renderTree(page, { now, objects: "unready", columns: 100 }).split("\n")).toEqual([
    "apps/web   Progressing   1.4.0 → 1.5.0   2m40s",
    "├─ ✔ crds    Ready      12 objects",
    "├─ ◐ app     Verifying  2 objects  1m2s  times out in 3m58s",
    "│    ├─ Deployment/web   3/5 updated",
    "│    └─ Job/j [2J   InProgress",
    "├─ ⏸ canary  Soaking    until 2026-03-01T14:32:10Z (in 9m30s)",
    "└─ · prod    Pending",
    "",
  ]);
});

test("no line is longer than the terminal is wide", () => {
  for (const line of renderTree(page, { now, objects: "none", columns: 20 }).split("\n"))
    expect(Array.from(line).length).toBeLessThanOrEqual(20);
});
