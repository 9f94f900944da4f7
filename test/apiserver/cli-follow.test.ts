import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asText, at } from "../../src/lib/json.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { deployment } from "../support/manifests.ts";
import { follow, startScene, type Scene } from "../support/scene.ts";

const cluster = testCluster();
const program = fileURLToPath(new URL("../../bin/stagesetctl", import.meta.url));

const stageSetKind = { apiVersion: "stages.metio.wtf/v1", kind: "StageSet" } as const;

interface Running extends Disposable {
  readonly ended: Promise<number | null>;
  stdout(): string;
  stderr(): string;
}

function start(...args: readonly string[]): Running {
  const child = spawn(program, [...args], { env: { ...process.env, KUBECONFIG: cluster.kubeconfigPath } });
  const said = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => (said.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (said.stderr += text));
  return {
    ended: new Promise((resolve) => child.once("close", resolve)),
    stdout: () => said.stdout,
    stderr: () => said.stderr,
    [Symbol.dispose]: () => void child.kill("SIGKILL"),
  };
}

let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster);
});
afterAll(() => scene[Symbol.asyncDispose]());

describe("stagesetctl get -w", () => {
  const names = ["one", "two", "three"];
  const files = (version: string) =>
    Object.fromEntries(
      names.map((name) => [`${name}/a.yaml`, deployment(`w-${name}`, { image: version, pods: { readyAfter: "1s" } })]),
    );
  const target = (name: string) => ({ namespace: scene.namespace, name });

  test("[70.38] shows every phase of a three-stage rollout, a line for each change, and ends when it is Ready", async () => {
    await scene.publish("w", files("1"));
    await scene.release(
      "w",
      names.map((name) => ({ name, sourceRef: { name: "w" }, path: name })),
      { suspend: true },
    );
    using lines = start("get", "w", "-n", scene.namespace, "-w");
    using json = start("get", "w", "-n", scene.namespace, "-w", "-o", "json");
    await eventually(() => lines.stdout().includes("three ") && json.stdout().includes("three"), { timeoutMs: 60_000 });
    using history = follow(cluster, { ...stageSetKind, ...target("w") });
    using waiting = start("get", "w", "-n", scene.namespace, "-w", "--until", "ready", "--timeout", "100s");
    using stage = start("get", "w", "-n", scene.namespace, "-w", "--until", "one", "--timeout", "100s");
    await cluster.admin.patch(stageSetRef(scene.namespace, "w"), { spec: { suspend: null } });
    await untilReady(cluster, target("w"), "True Succeeded", { timeoutMs: 90_000 });
    expect(await waiting.ended, waiting.stderr()).toBe(0);
    expect(await stage.ended, stage.stderr()).toBe(0);
    await eventually(() => / three Ready/.test(lines.stdout()) && json.stdout().includes('"phase":"Ready"'));
    for (const name of names) {
      const phases = lines
        .stdout()
        .split("\n")
        .flatMap((line) => /^\d{4}-\S+Z (\S+) (\S+)/.exec(line)?.slice(1) ?? [])
        .flatMap((word, index, all) => (index % 2 === 0 && word === name ? [all[index + 1]] : []));
      // A stage that is ready as soon as it is looked at is never on record as Verifying.
      const recorded = history.states.map((state) => asText(at(stageStatus(state, name), "phase")) ?? "Pending");
      expect(new Set(phases), lines.stdout()).toEqual(new Set(["Pending", ...recorded]));
      expect(phases.at(-1)).toBe("Ready");
    }
    for (const line of json.stdout().trim().split("\n"))
      expect(JSON.parse(line)).toMatchObject({
        namespace: scene.namespace,
        name: "w",
        time: expect.stringMatching(/Z$/) as string,
      });
  });

  test("ends with 3 when it fails, is gone, or time is up, and at once for a stage that is not declared", async () => {
    await scene.release("f", [{ name: "only", sourceRef: { name: "w" }, path: "no-such-folder" }]);
    using failed = start("get", "f", "-n", scene.namespace, "-w", "--until", "ready", "--timeout", "100s");
    expect(await failed.ended).toBe(3);
    expect(failed.stderr()).toMatch(/^Error: StageSet ".*\/f" has failed: /);
    using ghost = start("get", "f", "-n", scene.namespace, "-w", "--until", "ghost");
    expect(await ghost.ended).toBe(3);
    await scene.release("s", [{ name: "only", sourceRef: { name: "w" }, path: "one" }], { suspend: true });
    using timed = start("get", "s", "-n", scene.namespace, "-w", "--until", "ready", "--timeout", "1s");
    expect(await timed.ended).toBe(3);
    expect(timed.stderr()).toContain("timed out after 1s waiting for ready");
    using gone = start("get", "s", "-n", scene.namespace, "-w");
    await eventually(() => gone.stdout().includes("only"), { timeoutMs: 60_000 });
    await cluster.admin.delete(stageSetRef(scene.namespace, "s"));
    expect(await gone.ended).toBe(3);
    expect(gone.stderr()).toContain("is gone");
  });

  test.each([
    [["get", "-w", "--until", "ready"]],
    [["get", "x", "--until", "ready"]],
    [["get", "x", "-w", "-o", "yaml"]],
    [["get", "x", "-w", "--timeout", "-1s"]],
  ])("%j is a wrong command line: 2", async (args) => {
    using ran = start(...args);
    expect(await ran.ended).toBe(2);
    expect(ran.stderr()).toContain("--help");
  });
});
