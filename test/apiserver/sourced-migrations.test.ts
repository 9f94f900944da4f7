import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asArray, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, readyOf, stageSetRef } from "../support/controller.ts";
import { createEffects } from "../support/effects.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents, type SeenEvent } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
const sourceApi = "source.toolkit.fluxcd.io/v1";
let scene: Scene;
let strict: Scene;
beforeAll(async () => {
  scene = await startScene(cluster);
  strict = await startScene(cluster, {
    config: { requireVerifiedMigrationSources: true, requirePinnedMigrationSources: true },
  });
});
afterAll(async () => {
  await scene[Symbol.asyncDispose]();
  await strict[Symbol.asyncDispose]();
});

const until = async (of: Scene, name: string, holds: (stageSet: KubeObject | undefined) => boolean) => {
  let last: KubeObject | undefined;
  await eventually(
    async () => {
      last = await of.get(name);
      if (!holds(last)) throw new Error(`${readyOf(last)}: ${messageOf(last)}`);
      return true;
    },
    { timeoutMs: 60_000 },
  );
  return last;
};
const isAt = (version: string) => (stageSet: KubeObject | undefined) =>
  readyOf(stageSet) === "True Succeeded" && at(stageSet, "status", "version") === version;

/** A StageSet at 1.2.0 that has its migrations from a source; going to 1.11.0 asks for them. */
async function deployed(of: Scene, name: string, source: Readonly<Record<string, unknown>>): Promise<void> {
  await of.publish(name, { "a.yaml": configMap(name) });
  await of.release(name, [{ name: "only", sourceRef: { name } }], {
    retryInterval: "1s",
    version: { value: "1.2.0" },
    migrationsSourceRef: source,
  });
  await until(of, name, isAt("1.2.0"));
}
const goUp = (of: Scene, name: string) =>
  admin.patch(stageSetRef(of.namespace, name), { spec: { version: { value: "1.11.0" } } });
const refusal = async (of: Scene, name: string, reason: string): Promise<string> =>
  messageOf(await until(of, name, (stageSet) => readyOf(stageSet) === `False ${reason}`));

const wait = "[{ name: w, wait: { duration: 1ms } }]";

describe("a ladder in an artifact", () => {
  const files = {
    "one.yaml": `name: first\nto: 1.10\nactions: ${wait}\n---\n- name: second\n  to: 1.3\n  actions: ${wait}\n`,
    "deep/two.YML": `- { name: third, to: 1.11, from: 1.2.x, actions: ${wait} }\n`,
    "deep/.hidden/no.yaml": "nonsense: true\n",
    "deep/three.json": JSON.stringify({ name: "fourth", to: "1.4.0" }),
    "README.md": "# not read",
  };
  test.each([
    ["all-of-it", {}, ["second", "fourth", "first", "third"]],
    ["a-directory", { path: "./deep" }, ["fourth", "third"]],
    ["a-file", { path: "one.yaml" }, ["second", "first"]],
  ])("[30.33] every boundary is seen as written: %s", async (name, more, names) => {
    await scene.publish(`${name}-ladder`, files);
    await deployed(scene, name, { sourceRef: { name: `${name}-ladder` }, ...more });
    await admin.patch(stageSetRef(scene.namespace, name), {
      spec: { version: { value: "1.11.0", approvalMode: "OnMigrations" } },
    });
    const held = await until(scene, name, (stageSet) => readyOf(stageSet) === "False AwaitingApproval");
    const pending = asArray(at(held, "status", "pendingMigrations"));
    expect(pending.map((each) => at(each, "name"))).toEqual(names);
    const boundaries: Record<string, string> = { first: "1.10", second: "1.3", third: "1.11", fourth: "1.4.0" };
    expect(pending.map((each) => at(each, "to"))).toEqual(names.map((each) => boundaries[each]));
    await admin.patch(stageSetRef(scene.namespace, name), {
      metadata: { annotations: { "stages.metio.wtf/approved-version": "1.11" } },
    });
    await until(scene, name, isAt("1.11.0"));
  });

  test("[30.33] what the schema does not have is an error, and a corrected ladder is taken up by itself", async () => {
    const name = "misspelt";
    const effects = await createEffects(cluster, { namespace: scene.namespace, name: `${name}-effects` });
    const target = { kind: "ConfigMap", name: "gone" };
    const ladder = (cascade: string) =>
      JSON.stringify([
        {
          name: "idx",
          to: "1.3.0",
          actions: [{ name: "drop", delete: { target, cascade } }, effects.action("ran")],
        },
      ]);
    const { revision } = await scene.publish(`${name}-ladder`, { "ladder.json": ladder("orphan") });
    await deployed(scene, name, { sourceRef: { name: `${name}-ladder` } });
    await goUp(scene, name);
    const message = await refusal(scene, name, "MigrationArtifactInvalid");
    expect(message).toContain(`migrations source ExternalArtifact "${name}-ladder" at revision "${revision}"`);
    expect(message).toContain("ladder.json");
    expect(message).toContain("cascade");
    const corrected = await scene.publish(`${name}-ladder`, { "ladder.json": ladder("Orphan") });
    await until(scene, name, isAt("1.11.0"));
    expect(await effects.seen()).toEqual(["ran"]);
    const started = (): Promise<readonly SeenEvent[]> =>
      stageSetEvents(cluster, { namespace: scene.namespace, name, reason: "MigrationStarted" });
    await eventually(async () => (await started()).length > 0);
    expect((await started())[0]?.note).toContain(corrected.digest);
  });
});

test("[30.33] one that is not needed yet is looked at all the same: what is wrong is told, and Ready stays", async () => {
  const name = "ahead";
  await scene.publish(`${name}-ladder`, { "a.yaml": `{ name: idx, to: 1.3.0, actions: ${wait} }` });
  await deployed(scene, name, { sourceRef: { name: `${name}-ladder` } });
  await scene.publish(`${name}-ladder`, { "a.yaml": "{ name: idx, too: 1.3.0 }" });
  const told = (): Promise<readonly SeenEvent[]> =>
    stageSetEvents(cluster, { namespace: scene.namespace, name, reason: "MigrationArtifactInvalid" });
  await eventually(async () => (await told()).length > 0);
  expect((await told())[0]).toMatchObject({ type: "Warning", note: expect.stringContaining("too") as unknown });
  expect(readyOf(await scene.get(name))).toBe("True Succeeded");
});

describe("a source of migrations", () => {
  const ladder = { "a.yaml": `{ name: idx, to: 1.3.0, actions: ${wait} }` };
  const sends = { "a.yaml": "{ name: idx, to: 1.3.0, down: [{ name: w, http: { url: 'https://example.com' } }] }" };

  test.each<[string, string, RegExp, (name: string) => Promise<unknown>]>([
    ["absent", "ArtifactNotFound", /does not exist/, () => Promise.resolve()],
    [
      "unready",
      "SourceNotReady",
      /is not ready: Failed: source failed/,
      (name) => scene.publish(name, ladder, { ready: false }),
    ],
    [
      "sending",
      "InvalidSpec",
      /migration "idx".* has an http step, which takes --allowed-action-hosts/,
      (name) => scene.publish(name, sends),
    ],
    ["empty", "MigrationArtifactInvalid", /holds no migration/, (name) => scene.publish(name, { "x.txt": "" })],
    [
      "elsewhere",
      "MigrationArtifactInvalid",
      /nothing at spec\.migrationsSourceRef\.path/,
      (name) => scene.publish(name, ladder),
    ],
    [
      "twice",
      "MigrationArtifactInvalid",
      /name "idx"|"idx".*(twice|unique|before)/,
      (name) => scene.publish(name, { ...ladder, ...{ "b.yaml": ladder["a.yaml"] } }),
    ],
  ])("[30.34] %s: the reason is on Ready, and nothing moves", async (name, reason, message, publish) => {
    await publish(`${name}-ladder`);
    await deployed(scene, name, {
      sourceRef: { name: `${name}-ladder` },
      ...(name === "elsewhere" ? { path: "not/there" } : {}),
    });
    await goUp(scene, name);
    const text = await refusal(scene, name, reason);
    expect(text).toMatch(message);
    expect(text).toContain(`migrations source ExternalArtifact "${name}-ladder"`);
    expect(at(await scene.get(name), "status", "version")).toBe("1.2.0");
    await scene.publish(`${name}-ladder`, ladder);
    if (name === "elsewhere")
      await admin.patch(stageSetRef(scene.namespace, name), { spec: { migrationsSourceRef: { path: "a.yaml" } } });
    await until(scene, name, isAt("1.11.0"));
  });

  test("[30.34] in another namespace is refused before anything", async () => {
    const name = "foreign";
    await scene.publish(name, { "a.yaml": configMap(name) });
    await scene.release(name, [{ name: "only", sourceRef: { name } }], {
      version: { value: "1.2.0" },
      migrationsSourceRef: { sourceRef: { name: "ladder", namespace: "default" } },
    });
    expect(await refusal(scene, name, "InvalidSpec")).toContain("spec.migrationsSourceRef.sourceRef.namespace");
  });

  /** A source of Flux, suspended so that no controller touches it, that offers what the artifact does. */
  async function repository(
    of: Scene,
    name: string,
    { kind, spec, verified }: { readonly kind: string; readonly spec: object; readonly verified?: string },
  ): Promise<void> {
    const { object } = await of.publish(`${name}-content`, ladder);
    const ref = { apiVersion: sourceApi, kind, metadata: { name: `${name}-ladder`, namespace: of.namespace } };
    await admin.create({ ...ref, spec: { suspend: true, interval: "10m", ...spec } });
    const [ready] = asArray(at(object, "status", "conditions"));
    const condition = { ...(ready as object), type: "SourceVerified", status: verified, message: "no such key" };
    await admin.patchStatus(ref, {
      artifact: at(object, "status", "artifact"),
      conditions: [ready, ...(verified === undefined ? [] : [condition])],
    });
  }
  const git = { url: "https://example.com/x.git", ref: { branch: "main" } };
  const commit = { ...git, ref: { commit: "0123456789abcdef0123456789abcdef01234567" } };
  const oci = { url: "oci://example.com/x", ref: { tag: "latest" } };
  const digest = { ...oci, ref: { digest: `sha256:${"0".repeat(64)}` } };
  const bucket = { bucketName: "x", endpoint: "example.com" };

  test.each([
    ["failed-signature", { kind: "GitRepository", spec: commit, verified: "False" }, /is not verified: no such key/],
  ])("[30.34] %s is refused without any flag", async (name, source, message) => {
    await repository(scene, name, source);
    await deployed(scene, name, { sourceRef: { kind: source.kind, name: `${name}-ladder` } });
    await goUp(scene, name);
    expect(await refusal(scene, name, "MigrationSourceNotVerified")).toMatch(message);
  });

  test("[30.34] one that may change is told of, once for each revision, and runs", async () => {
    const name = "mutable";
    await repository(scene, name, { kind: "GitRepository", spec: git });
    await deployed(scene, name, { sourceRef: { kind: "GitRepository", name: `${name}-ladder` } });
    await goUp(scene, name);
    await until(scene, name, isAt("1.11.0"));
    const told = (): Promise<readonly SeenEvent[]> =>
      stageSetEvents(cluster, { namespace: scene.namespace, name, reason: "MigrationSourceMutable" });
    await eventually(async () => (await told()).length > 0);
    expect((await told()).map(({ type, count }) => [type, count])).toEqual([["Warning", 1]]);
  });

  test.each<[string, { kind: string; spec: object; verified?: string }, string]>([
    ["unsigned", { kind: "GitRepository", spec: commit }, "MigrationSourceNotVerified"],
    ["git-branch", { kind: "GitRepository", spec: git, verified: "True" }, "MigrationSourceNotPinned"],
    ["oci-tag", { kind: "OCIRepository", spec: oci, verified: "True" }, "MigrationSourceNotPinned"],
    ["bucket", { kind: "Bucket", spec: bucket, verified: "True" }, "MigrationSourceNotPinned"],
    ["git-commit", { kind: "GitRepository", spec: commit, verified: "True" }, ""],
    ["oci-digest", { kind: "OCIRepository", spec: digest, verified: "True" }, ""],
  ])("[30.34] with both flags, %s", async (name, source, reason) => {
    await repository(strict, name, source);
    await deployed(strict, name, { sourceRef: { kind: source.kind, name: `${name}-ladder` } });
    await goUp(strict, name);
    if (reason === "") await until(strict, name, isAt("1.11.0"));
    else expect(await refusal(strict, name, reason)).toContain(`${source.kind} "${name}-ladder"`);
  });
});
