import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asArray, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { publishArtifact, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { configMap, createStageSet, stageSetRef, stageStatus } from "../support/controller.ts";
import { startControllerProcess, type ControllerProcess } from "../support/controller-process.ts";
import { startFaultProxy, type Fault } from "../support/fault-proxy.ts";

const cluster = testCluster();
const { admin } = cluster;
const stages = ["first", "second"];

/** Where the program is killed: before a write reaches the API server, or after it took effect but before the answer. */
type KillPoint = { readonly write: number; readonly when: "before" | "after" } | undefined;

/** What the first revision has, what the second drops, moves and adds; one artifact, so that all moves at once. */
const revisions: readonly Readonly<Record<string, Readonly<Record<string, string>>>>[] = [
  {
    first: { "a.yaml": configMap("kept", { v: "1" }), "b.yaml": configMap("dropped"), "c.yaml": configMap("moved") },
    second: { "a.yaml": configMap("last", { v: "1" }) },
  },
  {
    first: { "a.yaml": configMap("kept", { v: "2" }), "d.yaml": configMap("added") },
    second: { "a.yaml": configMap("last", { v: "2" }), "c.yaml": configMap("moved") },
  },
];

describe("the program killed at any write", () => {
  let server: ArtifactServer;
  beforeAll(async () => {
    server = await startArtifactServer();
  });
  afterAll(() => server.stop());

  /** Installs, upgrades and tears down, with one kill on the way; gives what was there after the upgrade. */
  const run = async (
    kill: KillPoint,
  ): Promise<{ readonly state: unknown; readonly writes: number; readonly killed: boolean }> => {
    const namespace = await uniqueNamespace(cluster);
    await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
    await using proxy = await startFaultProxy(cluster);
    let program: ControllerProcess | undefined;
    let killed = false;
    const strike = (): void => {
      killed = true;
      program?.kill();
    };
    proxy.onCall = (call): Fault | undefined => {
      if (killed || kill === undefined || call.write !== kill.write || kill.when !== "before") return undefined;
      strike();
      return { kind: "drop" };
    };
    proxy.onAnswer = (call) => {
      if (!killed && kill?.when === "after" && call.write === kill.write) strike();
    };
    const start = (): Promise<ControllerProcess> =>
      startControllerProcess({
        server: proxy.server,
        token: cluster.adminToken,
        namespaces: [namespace],
        args: ["--log-level=debug"],
      });
    program = await start();
    let restarted = false;
    /** Waits for something; starts the program again once it was killed. */
    const until = async (look: () => Promise<boolean>): Promise<void> => {
      for (;;) {
        const struck = await eventually(async () => (killed && !restarted) || ((await look()) ? "seen" : false), {
          timeoutMs: 20_000,
        }).catch((error: unknown) => {
          throw new Error(`${String(error)}\n${program?.log() ?? ""}`, { cause: error });
        });
        if (struck === "seen") return;
        restarted = true;
        await program?.ended();
        program = await start();
      }
    };
    const deployed = async (revision: number): Promise<boolean> => {
      const stageSet = await admin.get(stageSetRef(namespace, "app"));
      return (
        at(stageSet, "status", "observedGeneration") === stageSet?.metadata.generation &&
        stages.every((stage) => {
          const entry = stageStatus(stageSet, stage);
          return at(entry, "phase") === "Ready" && at(entry, "appliedRevision") === `r${revision}`;
        }) &&
        at(stageSet, "status", "lastAppliedRevisions", `${namespace}/app`) === `r${revision}`
      );
    };
    const publish = async (index: number): Promise<void> => {
      const files = Object.entries(revisions[index] ?? {}).flatMap(([stage, manifests]) =>
        Object.entries(manifests).map(([name, text]) => [`${stage}/${name}`, text] as const),
      );
      const name = "app";
      await publishArtifact(cluster, {
        server,
        namespace,
        name,
        revision: `r${index + 1}`,
        files: Object.fromEntries(files),
      });
    };
    try {
      await publish(0);
      await createStageSet(cluster, {
        namespace,
        name: "app",
        spec: {
          interval: "5s",
          serviceAccountName: "deployer",
          stages: stages.map((name) => ({ name, path: name, sourceRef: { name: "app" } })),
        },
      });
      await until(() => deployed(1));
      const movedUid = (await admin.get(mapRef(namespace, "moved")))?.metadata.uid;
      await publish(1);
      await until(() => deployed(2));
      await until(async () => (await admin.get(mapRef(namespace, "dropped"))) === undefined);
      const state = await stateOf(namespace);
      expect((await admin.get(mapRef(namespace, "moved")))?.metadata.uid, "a moved object is the same one").toBe(
        movedUid,
      );
      await admin.delete(stageSetRef(namespace, "app"));
      await until(async () => (await admin.get(stageSetRef(namespace, "app"))) === undefined);
      expect(await ownObjects(namespace), "objects left after the teardown").toEqual([]);
      return { state, writes: proxy.calls.filter((call) => call.write > 0).length, killed };
    } finally {
      await program.stop();
    }
  };

  test("[20.12] ends as an undisturbed run does, with no object orphaned, at every write of install, upgrade and teardown", async () => {
    const clean = await run(undefined);
    expect(clean.writes).toBeGreaterThan(15);
    const points = chosenPoints(clean.writes);
    const problems: string[] = [];
    let tried = 0;
    // Two at a time: each has a namespace, a proxy and a program of its own.
    const queue = [...points];
    const worker = async (): Promise<void> => {
      for (let point = queue.shift(); point !== undefined; point = queue.shift()) {
        const where = `${point.when} write ${point.write}`;
        try {
          const { state, killed } = await run(point);
          if (killed) tried++;
          expect(state, where).toEqual(clean.state);
        } catch (error) {
          problems.push(`${where}: ${String(error).slice(0, 2_000)}`);
        }
      }
    };
    await Promise.all([worker(), worker()]);
    console.log(`killed the program at ${tried} points of a run with ${clean.writes} writes`);
    expect(problems).toEqual([]);
    // Writes past the last one of a run that has fewer than the clean one are not reached.
    expect(tried).toBeGreaterThanOrEqual(points.length - 3);
  }, 900_000);
});

/**
 * `STAGESET_KILL_POINTS`: `all`, or points such as `before 28,after 3`. Else a sample that covers every third write, before
 * and after in turn.
 */
function chosenPoints(writes: number): readonly { readonly write: number; readonly when: "before" | "after" }[] {
  const wanted = process.env["STAGESET_KILL_POINTS"];
  const all = Array.from({ length: writes }, (_, index) => index + 1).flatMap((write) =>
    (["before", "after"] as const).map((when) => ({ write, when })),
  );
  if (wanted === undefined || wanted === "")
    return all.filter(({ write, when }) => write % 3 === 0 && (write % 2 === 0) === (when === "after"));
  return wanted === "all" ? all : all.filter(({ write, when }) => wanted.split(",").includes(`${when} ${write}`));
}

function mapRef(namespace: string, name: string) {
  return { apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace } };
}

async function ownObjects(namespace: string): Promise<readonly KubeObject[]> {
  return admin.list({ apiVersion: "v1", kind: "ConfigMap", namespace }, { labelSelector: "stages.metio.wtf/name" });
}

/** Everything that must not depend on when the program was killed. */
async function stateOf(namespace: string): Promise<unknown> {
  const stageSet = await admin.get(stageSetRef(namespace, "app"));
  const inventories = await admin.list({ apiVersion: "stages.metio.wtf/v1", kind: "StageInventory", namespace });
  const strip = (text: string): string => text.replaceAll(namespace, "NS");
  return JSON.parse(
    strip(
      JSON.stringify({
        objects: (await ownObjects(namespace)).map((object) => [
          object.metadata.name,
          object["data"],
          object.metadata.labels,
        ]),
        stages: asArray(at(stageSet, "status", "stages")),
        applied: at(stageSet, "status", "lastAppliedRevisions"),
        inventories: inventories.map((shard) => [shard.metadata.name.replace(/-[0-9a-f]{10}$/, ""), shard["spec"]]),
      }),
    ),
  );
}
