import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { asArray, at } from "../../src/lib/json.ts";
import { createServiceAccount, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { createStageSet } from "../support/controller.ts";
import { ready, stageSetWithStatus } from "../support/ui.ts";

const cluster = testCluster();
const program = fileURLToPath(new URL("../../bin/stagesetctl", import.meta.url));

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function runWith(kubeconfig: string, args: readonly string[]): Promise<Ran> {
  const env = { ...process.env, KUBECONFIG: kubeconfig, POD_NAMESPACE: undefined };
  return new Promise((resolve) => {
    execFile(program, [...args], { env }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : typeof error.code === "number" ? error.code : -1, stdout, stderr });
    });
  });
}

const run = (...args: readonly string[]): Promise<Ran> => runWith(cluster.kubeconfigPath, args);

let namespace = "";
let empty = "";
let dir = "";
const soakUntil = new Date(Date.now() + 3_600_000).toISOString().replace(/\.\d+/, "");
const escape = "\u001b[31mred\u001b]0;title\u0007";

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "stageset-cli-"));
  namespace = await uniqueNamespace(cluster);
  empty = await uniqueNamespace(cluster);
  // Leases that ended controllers of other tests leave behind would tell of a silent controller: this one is renewed.
  await cluster.admin.create({
    apiVersion: "coordination.k8s.io/v1",
    kind: "Lease",
    metadata: { namespace, name: "stageset-controller.stages.metio.wtf" },
    spec: { holderIdentity: "somebody", renewTime: "2099-01-01T00:00:00.000000Z" },
  });
  await stageSetWithStatus(cluster, {
    namespace,
    name: "web",
    stages: [
      { name: "app", sourceRef: { name: "app" }, promotion: { soak: "1h" } },
      { name: "prod", sourceRef: { name: "app" } },
    ],
    status: {
      version: "1.4.0",
      conditions: [ready("False", "Soaking", 'stage "app" soaks')],
      pendingUpdate: { revisions: { [`${namespace}/app`]: "v3" }, nextWindowOpens: "2030-01-01T00:00:00Z" },
      stages: [
        {
          name: "app",
          phase: "Ready",
          appliedRevision: "v2",
          entriesCount: 3,
          promotionState: { phase: "Soaking", soakUntil },
        },
        { name: "prod", phase: "Failed", message: "apply: refused" },
        { name: "removed", phase: "Ready" },
        { name: "removed-too", phase: "Ready" },
      ],
    },
  });
  await createStageSet(cluster, {
    namespace,
    name: "api",
    spec: { stages: [{ name: "one", sourceRef: { name: "api" } }] },
  });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe("stagesetctl get", () => {
  test("[70.4] lists StageSets sorted, with stages of the spec alone", async () => {
    const { code, stdout, stderr } = await run("get", "-n", namespace);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout.split("\n")).toEqual([
      "NAME  READY    REASON   STAGES  VERSION  PENDING",
      "api   Unknown  -        0/1     -        -",
      "web   False    Soaking  1/2     1.4.0    held until 2030-01-01T00:00:00Z",
      "",
    ]);
    const all = await run("get", "-A");
    expect(all.stdout).toMatch(/^NAMESPACE {2,}NAME/);
    expect(all.stdout).toContain(namespace);
  });

  test("[70.4] none: a sentence and 0, for programs a valid empty list", async () => {
    expect(await run("get", "-n", empty)).toEqual({ code: 0, stdout: "No StageSets found.\n", stderr: "" });
    const { code, stdout } = await run("get", "-n", empty, "-o", "json");
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ apiVersion: "stages.metio.wtf/v1", kind: "StageSetList", items: [] });
  });

  test("[70.4] a name with -A is 2, one that is missing 3", async () => {
    expect(await run("get", "web", "-A")).toMatchObject({
      code: 2,
      stdout: "",
      stderr: expect.stringContaining("--help") as string,
    });
    const missing = await run("get", "nobody", "-n", namespace);
    expect(missing).toEqual({ code: 3, stdout: "", stderr: `Error: StageSet "${namespace}/nobody" not found\n` });
  });

  test("shows one in detail", async () => {
    const { code, stdout } = await run("get", "stageset/web", "-n", namespace);
    expect(code).toBe(0);
    expect(stdout.split("\n")).toEqual([
      "Name:       web",
      `Namespace:  ${namespace}`,
      "Ready:      False (Soaking)",
      'Message:    stage "app" soaks',
      "Version:    1.4.0",
      "Pending update:",
      "  Next window opens: 2030-01-01T00:00:00Z",
      `  Held: ${namespace}/app -> v3`,
      "Stages:",
      "  NAME  PHASE   REVISION  ENTRIES  GATE",
      `  app   Ready   v2        3        Soaking until ${soakUntil}`,
      "  prod  Failed  -         0        -",
      "    apply: refused",
      "",
    ]);
    expect((await run("get", "api", "-n", namespace)).stdout).toContain("Ready:      Unknown\n");
  });

  test("formats for programs: one document, no managedFields unless asked for, sorted keys in YAML", async () => {
    const { stdout } = await run("get", "web", "-n", namespace, "-o", "json");
    const object: unknown = JSON.parse(stdout);
    expect(object).toMatchObject({ apiVersion: "stages.metio.wtf/v1", kind: "StageSet", metadata: { name: "web" } });
    expect(at(object, "metadata", "managedFields")).toBeUndefined();
    expect(stdout).toMatch(/^\{\n {2}"/);
    const whole = await run("get", "web", "-n", namespace, "-o", "json", "--show-managed-fields");
    expect(asArray(at(JSON.parse(whole.stdout), "metadata", "managedFields")).length).toBeGreaterThan(0);
    const yaml = (await run("get", "web", "-n", namespace, "-o", "yaml")).stdout;
    expect(parse(yaml)).toEqual(object);
    expect(Object.keys(parse(yaml) as object)).toEqual(["apiVersion", "kind", "metadata", "spec", "status"]);
    expect((await run("get", "-n", namespace, "-o", "name")).stdout).toBe(
      "stageset.stages.metio.wtf/api\nstageset.stages.metio.wtf/web\n",
    );
    const wide = (await run("get", "-n", namespace, "-o", "wide")).stdout;
    expect(wide).toMatch(/^NAME .*HOLDING +REVISION +AGE\n/);
    expect(wide).toMatch(/app: soaks until/);
  });

  test("a selector selects", async () => {
    await createStageSet(cluster, {
      namespace: empty,
      name: "x",
      spec: { stages: [{ name: "one", sourceRef: { name: "x" } }] },
    });
    try {
      expect((await run("get", "-n", empty, "-l", "team=shop")).stdout).toBe("No StageSets found.\n");
      expect((await run("get", "-n", empty, "-l", "!team")).stdout).toContain("x ");
    } finally {
      await cluster.admin.delete({
        apiVersion: "stages.metio.wtf/v1",
        kind: "StageSet",
        metadata: { namespace: empty, name: "x" },
      });
    }
  });

  test("[70.3] cluster and user in two files of KUBECONFIG work together, one alone is 3; -n, context, default in order", async () => {
    const whole = {
      name: "c",
      cluster: { server: cluster.server, "certificate-authority-data": Buffer.from(cluster.caPem).toString("base64") },
    };
    const contexts = [
      { name: "here", context: { cluster: "c", user: "u", namespace } },
      { name: "nowhere", context: { cluster: "c", user: "u" } },
    ];
    const [one, two] = [join(dir, "one"), join(dir, "two")];
    await writeFile(one, stringify({ clusters: [whole], contexts, "current-context": "here" }));
    await writeFile(two, stringify({ users: [{ name: "u", user: { token: cluster.adminToken } }] }));
    const both = `${one}:${two}`;
    expect((await runWith(both, ["get", "-o", "name"])).stdout).toContain("/web\n");
    expect((await runWith(both, ["get", "-n", empty])).stdout).toBe("No StageSets found.\n");
    expect((await runWith(both, ["get", "--context", "nowhere", "-o", "name"])).stdout).not.toContain("/web\n");
    for (const file of [one, two, join(dir, "none")]) {
      const ran = await runWith(file, ["get"]);
      expect([ran.code, ran.stdout], file).toEqual([3, ""]);
      expect(ran.stderr, file).toMatch(/^Error: /);
    }
  });

  test("[70.31] escape sequences in messages never reach a terminal", async () => {
    const made = await uniqueNamespace(cluster);
    await stageSetWithStatus(cluster, {
      namespace: made,
      name: "evil",
      status: {
        version: escape,
        conditions: [ready("False", "StageFailed", escape)],
        stages: [{ name: "app", phase: "Failed", message: `apply: ${escape}`, appliedRevision: escape }],
      },
    });
    for (const args of [["get"], ["get", "-o", "wide"], ["get", "evil"], ["why", "evil"]]) {
      const { stdout, stderr } = await run(...args, "-n", made);
      expect(stdout, args.join(" ")).toContain("red");
      expect(stdout + stderr).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
    }
    expect(
      (JSON.parse((await run("get", "evil", "-n", made, "-o", "json")).stdout) as { status: object }).status,
    ).toMatchObject({ version: escape });
  });
});

describe("stagesetctl why", () => {
  test("[70.38] the headline with what ends it, and 1; the same for programs", async () => {
    const { code, stdout, stderr } = await run("why", "web", "-n", namespace);
    expect(code).toBe(1);
    expect(stdout).toContain(
      `${namespace}/web  Waiting\n  promotion (stage app): Soaking\n  soaks until ${soakUntil}\n`,
    );
    expect(stdout).toContain(
      `  command:    kubectl annotate stageset web -n ${namespace} --overwrite stages.metio.wtf/promote="app@$(date +%s)"`,
    );
    expect(stdout).toMatch(/\nQueued behind:\n[\s\S]*window: UpdateDeferred/);
    expect(stderr).toBe("");
    const json = await run("why", "web", "-n", namespace, "-o", "json");
    expect(json.code).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject({
      namespace,
      name: "web",
      state: "waiting",
      cause: { kind: "promotion", stage: "app", reason: "Soaking", until: soakUntil },
      others: expect.arrayContaining([
        expect.objectContaining({ kind: "window" }),
        expect.objectContaining({ kind: "apply", stage: "prod" }),
        expect.objectContaining({ kind: "source", object: "ExternalArtifact/app" }),
      ]) as unknown,
      objects: [],
    });
  });

  test("[70.38] a stage alone; one that is not declared is 3", async () => {
    const { stdout } = await run("why", "web", "-n", namespace, "--stage", "prod", "-o", "json");
    expect(at(JSON.parse(stdout), "cause", "kind")).toBe("window");
    expect(await run("why", "web", "-n", namespace, "--stage", "removed")).toMatchObject({
      code: 3,
      stderr: `Error: StageSet "${namespace}/web" has no stage "removed"\n`,
    });
  });

  test("[70.38] 0 when nothing keeps it, 3 when it cannot be told", async () => {
    await stageSetWithStatus(cluster, {
      namespace: empty,
      name: "fine",
      status: { conditions: [ready("True", "Succeeded", "done")] },
    });
    try {
      expect(await run("why", "fine", "-n", empty)).toMatchObject({ code: 0, stdout: `${empty}/fine  OK\n  done\n` });
      expect(await run("why", "nobody", "-n", empty)).toMatchObject({ code: 3, stdout: "" });
    } finally {
      await cluster.admin.delete({
        apiVersion: "stages.metio.wtf/v1",
        kind: "StageSet",
        metadata: { namespace: empty, name: "fine" },
      });
    }
  });

  test("[70.38] reads what the caller may, and names what was denied", async () => {
    const rules = [{ apiGroups: ["stages.metio.wtf"], resources: ["stagesets"], verbs: ["get"] }];
    const { token } = await createServiceAccount(cluster, { namespace, name: "viewer", rules });
    const file = join(dir, "viewer");
    await writeFile(
      file,
      stringify({
        clusters: [
          {
            name: "c",
            cluster: {
              server: cluster.server,
              "certificate-authority-data": Buffer.from(cluster.caPem).toString("base64"),
            },
          },
        ],
        users: [{ name: "u", user: { token } }],
        contexts: [{ name: "x", context: { cluster: "c", user: "u", namespace } }],
        "current-context": "x",
      }),
    );
    const { code, stdout, stderr } = await runWith(file, ["why", "web"]);
    expect(code).toBe(1);
    expect(stdout).toContain("promotion (stage app): Soaking");
    expect(stderr).toContain("note: ExternalArtifact");
    expect(stderr).toContain("note: the controller's Lease");
    expect(stdout).not.toContain("offers no artifact");
  });
});
