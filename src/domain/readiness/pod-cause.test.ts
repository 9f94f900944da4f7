import { expect, test } from "vitest";
import type { KubeObject } from "../../lib/kube-object.ts";
import { causeOfPods, podCause } from "./pod-cause.ts";

function pod(status: Readonly<Record<string, unknown>>, metadata: Partial<KubeObject["metadata"]> = {}): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "web-1", ...metadata },
    spec: { initContainers: [{ name: "init", image: "init:1" }], containers: [{ name: "app", image: "app:1" }] },
    status,
  };
}
const waiting = (reason: string, more: Readonly<Record<string, unknown>> = {}, message?: string): KubeObject =>
  pod({
    containerStatuses: [{ name: "app", image: "docker.io/app:1", state: { waiting: { reason, message } }, ...more }],
  });
const exited = { terminated: { exitCode: 1, reason: "Error", finishedAt: "2026-01-01T00:00:00Z" } };

test.each<readonly [string, KubeObject, string | undefined, boolean]>([
  [
    "a pull that backs off",
    waiting("ImagePullBackOff", {}, 'Back-off pulling image "app:1"'),
    'container "app" cannot pull image "app:1" (ImagePullBackOff)',
    true,
  ],
  [
    "a pull that just failed reads the same",
    waiting("ErrImagePull", {}, "not found"),
    'container "app" cannot pull image "app:1" (ImagePullBackOff)',
    true,
  ],
  ["an image name", waiting("InvalidImageName"), 'container "app" cannot pull image "app:1" (InvalidImageName)', true],
  [
    "a missing Secret",
    waiting("CreateContainerConfigError", {}, 'secret "db" not found'),
    'container "app" cannot be started: secret "db" not found (CreateContainerConfigError)',
    true,
  ],
  [
    "a crash loop",
    waiting("CrashLoopBackOff", { restartCount: 5, lastState: exited }, "back-off 40s restarting"),
    'container "app" keeps crashing: exit code 1 (CrashLoopBackOff)',
    true,
  ],
  [
    "a crash loop between two crashes",
    pod({
      containerStatuses: [{ name: "app", ready: false, restartCount: 3, state: { running: {} }, lastState: exited }],
    }),
    'container "app" keeps crashing: exit code 1 (CrashLoopBackOff)',
    true,
  ],
  [
    "out of memory",
    waiting("CrashLoopBackOff", { lastState: { terminated: { exitCode: 137, reason: "OOMKilled" } } }),
    'container "app" keeps crashing: exit code 137, OOMKilled (CrashLoopBackOff)',
    true,
  ],
  [
    "a crash loop nothing is known of",
    waiting("CrashLoopBackOff"),
    'container "app" keeps crashing: it does not stay up (CrashLoopBackOff)',
    true,
  ],
  [
    "an init container first",
    pod({
      initContainerStatuses: [{ name: "init", state: { waiting: { reason: "ErrImagePull" } } }],
      containerStatuses: [{ name: "app", state: { waiting: { reason: "PodInitializing" } } }],
    }),
    'container "init" cannot pull image "init:1" (ImagePullBackOff)',
    true,
  ],
  [
    "no node",
    pod({
      phase: "Pending",
      conditions: [
        { type: "PodScheduled", status: "False", reason: "Unschedulable", message: "0/1 nodes are available" },
      ],
    }),
    "a pod cannot be scheduled: 0/1 nodes are available (Unschedulable)",
    false,
  ],
  [
    "a Job's pod that ended",
    pod({ phase: "Failed", containerStatuses: [{ name: "app", state: exited }] }),
    'container "app" has failed: exit code 1',
    false,
  ],
  [
    "an evicted pod",
    pod({ phase: "Failed", reason: "Evicted", message: "The node was low on memory" }),
    "a pod has failed: The node was low on memory (Evicted)",
    false,
  ],
  ["one that is being created", waiting("ContainerCreating"), undefined, false],
  [
    "one that starts slowly",
    pod({ containerStatuses: [{ name: "app", ready: false, restartCount: 0, state: { running: {} } }] }),
    undefined,
    false,
  ],
  [
    "one that restarted once",
    pod({
      containerStatuses: [{ name: "app", ready: false, restartCount: 1, state: { running: {} }, lastState: exited }],
    }),
    undefined,
    false,
  ],
  [
    "one that is ready again",
    pod({
      conditions: [{ type: "Ready", status: "True" }],
      containerStatuses: [{ name: "app", ready: true, restartCount: 9, lastState: exited }],
    }),
    undefined,
    false,
  ],
  ["an old one that goes", pod({ phase: "Failed" }, { deletionTimestamp: "2026-01-01T00:00:00Z" }), undefined, false],
])("%s", (_title, given, text, isStuck) => {
  expect(podCause(given)).toEqual(text === undefined ? undefined : { text, isStuck });
});

test("of several pods a stuck one speaks, whatever their order", () => {
  const failed = pod({ phase: "Failed", message: "a" });
  const stuck = waiting("ImagePullBackOff");
  expect(causeOfPods([failed, stuck])).toEqual(causeOfPods([stuck, failed]));
  expect(causeOfPods([failed, stuck])?.isStuck).toBe(true);
  expect(causeOfPods([])).toBeUndefined();
});

test("what a program or a runtime says is one short line", () => {
  const wordy = waiting("CreateContainerError", {}, `first\n  second ${"x".repeat(2_000)}`);
  const text = podCause(wordy)?.text ?? "";
  expect(text).toMatch(/^container "app" cannot be started: first second x+…$/);
  expect(text.length).toBeLessThanOrEqual(300);
});
