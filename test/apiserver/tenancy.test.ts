import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { requestedAtAnnotation } from "../../src/api/keys.ts";
import { asArray, asObject, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import {
  publishArtifact,
  startArtifactServer,
  type ArtifactServer,
  type PublishOptions,
} from "../support/artifacts.ts";
import { allRules, auditEvents, auditMark, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { configMap, createStageSet, messageOf, readyOf, stageSetRef, untilReady } from "../support/controller.ts";
import { deployment } from "../support/manifests.ts";
import { startTenancy, type Tenancy } from "../support/tenancy.ts";

const cluster = testCluster();
const { admin } = cluster;

const configMapRef = (namespace: string, name: string) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, namespace },
});

/** Ways in which a source of another namespace fails; what it is called is the same each time. */
const causes: Readonly<Record<string, Partial<PublishOptions> | "missing" | "forbidden" | "unfetchable">> = {
  missing: "missing",
  forbidden: "forbidden",
  "not ready": { ready: false },
  "bad digest": { digest: `sha256:${"0".repeat(64)}` },
  "no archive": { files: Buffer.from("this is no archive") },
  unfetchable: "unfetchable",
};

describe("sources in other namespaces", () => {
  let server: ArtifactServer;
  beforeAll(async () => {
    server = await startArtifactServer();
  });
  afterAll(() => server.stop());

  /** A StageSet per cause, each in a namespace of its own with the same names throughout. */
  const tryCause = async (cause: string, sourceRef: Readonly<Record<string, string>>) => {
    const how = causes[cause];
    const foreign = await uniqueNamespace(cluster, "foreign");
    const tenancy = await startTenancy(cluster, how === "forbidden" ? {} : { reaches: [foreign] });
    const { namespace } = tenancy;
    await tenancy.account("deployer", allRules);
    if (how !== "missing") {
      const producer = sourceRef["apiVersion"] === undefined ? {} : { sourceRef };
      const files = { "a.yaml": configMap("foreign-object") };
      const more = typeof how === "object" ? how : {};
      const published = await publishArtifact(cluster, {
        server,
        namespace: foreign,
        name: "shared",
        files,
        ...producer,
        ...more,
      });
      if (how === "unfetchable") server.serve(published.path, { kind: "status", status: 404 });
    }
    const since = await auditMark(cluster);
    await createStageSet(cluster, {
      namespace,
      name: "reader",
      spec: {
        serviceAccountName: "deployer",
        retryInterval: "2s",
        stages: [{ name: "only", sourceRef: { ...sourceRef, namespace: foreign } }],
      },
    });
    const stageSet = await untilReady(cluster, { namespace, name: "reader" }, "False SourceNotReady");
    const looks = async (): Promise<readonly number[]> => {
      const reads = await auditEvents(cluster, {
        since,
        namespace: foreign,
        username: tenancy.self.username,
        resource: "externalartifacts",
      });
      const times = reads.map((event) => Date.parse(event.receivedAt));
      // One look may read twice: the second time because the archive was gone.
      return times.filter((time, index) => time - (times[index - 1] ?? 0) > 1_000);
    };
    const times = await eventually(async () => {
      const seen = await looks();
      return seen.length >= 4 && seen;
    });
    const gaps = times.slice(1).map((time, index) => time - (times[index] ?? 0));
    const events = await admin.list({ apiVersion: "events.k8s.io/v1", kind: "Event", namespace });
    const last = await admin.get(stageSetRef(namespace, "reader"));
    await tenancy[Symbol.asyncDispose]();
    const plain = (value: unknown): string => JSON.stringify(value).replaceAll(foreign, "foreign");
    return {
      message: plain(messageOf(stageSet)),
      status: plain(withoutTimes(asObject(last?.["status"]) ?? {})),
      events: plain(events.map((event) => [at(event, "reason"), at(event, "type"), at(event, "note")])),
      gaps,
    };
  };

  test.for([
    { called: "by its own name", kind: "ExternalArtifact", sourceRef: { name: "shared" } },
    {
      called: "through its producer",
      kind: "JsonnetSnippet",
      sourceRef: { apiVersion: "jaas.metio.wtf/v1", kind: "JsonnetSnippet", name: "snippet" },
    },
  ])(
    "[50.13] every cause of failure of one named $called reads the same and is looked at R later",
    async ({ kind, sourceRef }) => {
      const results = await Promise.all(Object.keys(causes).map((cause) => tryCause(cause, sourceRef)));
      const [first] = results;
      expect(first?.message).toBe(
        JSON.stringify(
          `cross-namespace ${kind} "${sourceRef.name}" is not reachable; check the source CR's status in "foreign"`,
        ),
      );
      for (const [index, result] of results.entries()) {
        const cause = Object.keys(causes)[index];
        expect(result.message, cause).toBe(first?.message);
        expect(result.status, cause).toBe(first?.status);
        expect(result.events, cause).toBe(first?.events);
        for (const gap of result.gaps) {
          expect(gap, cause).toBeGreaterThan(1_850);
          // R is 2 s; the events are seen from outside, on a machine that has other work.
          expect(gap, cause).toBeLessThan(10_000);
        }
      }
    },
  );

  test("[50.13] --no-cross-namespace-refs refuses the reference without a read", async () => {
    const foreign = await uniqueNamespace(cluster, "foreign");
    await using tenancy = await startTenancy(cluster, { reaches: [foreign], config: { crossNamespace: "refused" } });
    const { namespace, self } = tenancy;
    await tenancy.account("deployer", allRules);
    await publishArtifact(cluster, {
      server,
      namespace: foreign,
      name: "shared",
      files: { "a.yaml": configMap("foreign-object") },
    });
    await tenancy.release("reader", {
      serviceAccountName: "deployer",
      stages: [{ name: "only", sourceRef: { name: "shared", namespace: foreign } }],
    });
    await untilReady(cluster, { namespace, name: "reader" }, "False ResolveFailed");
    expect(await auditEvents(cluster, { namespace: foreign, username: self.username })).toEqual([]);
  });

  test("a dependency in another namespace says the same whatever is wrong with it", async () => {
    const foreign = await uniqueNamespace(cluster, "foreign");
    const hidden = await uniqueNamespace(cluster, "hidden");
    await using tenancy = await startTenancy(cluster, { reaches: [foreign] });
    const { namespace } = tenancy;
    await tenancy.account("deployer", allRules);
    await tenancy.publish("app", { "a.yaml": configMap("app") });
    const stages = [{ name: "only", sourceRef: { name: "app" } }];
    await createStageSet(cluster, { namespace: foreign, name: "unready", spec: { stages } });
    const messages = await Promise.all(
      [
        ["missing", foreign],
        ["unready", foreign],
        ["hidden", hidden],
      ].map(async ([name = "", where = ""]) => {
        await tenancy.release(`on-${name}`, {
          serviceAccountName: "deployer",
          dependsOn: [{ name, namespace: where }],
          stages,
        });
        const stageSet = await untilReady(cluster, { namespace, name: `on-${name}` }, "False DependencyNotReady");
        return messageOf(stageSet).replaceAll(where, "where").replaceAll(name, "name");
      }),
    );
    expect(new Set(messages).size, messages.join("\n")).toBe(1);
  });
});

/** A status with every instant taken out. */
function withoutTimes(status: Readonly<Record<string, unknown>>): unknown {
  return JSON.parse(
    JSON.stringify(status, (key: string, value: unknown) => (key === "lastTransitionTime" ? "then" : value)),
  );
}

describe("namespaces that are not watched", () => {
  test("[50.14] a StageSet there is untouched and the gate does not know it", async () => {
    const other = await uniqueNamespace(cluster, "unwatched");
    await using tenancy = await startTenancy(cluster, { reaches: [other] });
    const { namespace, self, controller } = tenancy;
    const spec = { serviceAccountName: "deployer", stages: [{ name: "only", sourceRef: { name: "app" } }] };
    const outside = await createStageSet(cluster, { namespace: other, name: "app", spec });
    await tenancy.account("deployer", allRules);
    await tenancy.publish("app", { "a.yaml": configMap("app") });
    await tenancy.release("app", spec);
    await untilReady(cluster, { namespace, name: "app" });
    expect(await admin.get(stageSetRef(other, "app"))).toEqual(outside);
    expect(await auditEvents(cluster, { namespace: other, username: self.username })).toEqual([]);
    const answer = await controller.gate(`/gate/${other}/app/only`, { headers: { accept: "application/json" } });
    expect(answer.status).toBe(200);
    expect(JSON.parse(answer.body)).toMatchObject({ ready: false, reason: "NotFound" });
    expect((await controller.gate(`/gate/${other}/app/only`)).status).toBe(403);
    const everywhere = await auditEvents(cluster, {
      username: self.username,
      where: (event) => event.resource === "stagesets" && event.namespace === "",
    });
    expect(everywhere).toEqual([]);
  });
});

describe("what belongs to whom", () => {
  let tenancy: Tenancy;
  beforeAll(async () => {
    tenancy = await startTenancy(cluster);
    await tenancy.account("deployer", allRules);
  });
  afterAll(() => tenancy[Symbol.asyncDispose]());

  const shardOf = async (stageSet: string): Promise<KubeObject> => {
    const [shard] = await admin.list(
      { apiVersion: "stages.metio.wtf/v1", kind: "StageInventory", namespace: tenancy.namespace },
      { labelSelector: `stages.metio.wtf/stage-set=${stageSet}` },
    );
    if (shard === undefined) throw new Error(`no inventory of ${stageSet}`);
    return shard;
  };

  test.for(["prune", "teardown"] as const)(
    "[50.48] a forged inventory entry does not make %s delete a foreign object",
    async (how) => {
      const { namespace } = tenancy;
      const stages = [{ name: "only", sourceRef: { name: `forger-${how}` } }];
      await admin.create({ ...configMapRef(namespace, `bystander-${how}`), data: { k: "1" } });
      await tenancy.publish(`victim-${how}`, { "a.yaml": configMap(`owned-${how}`) });
      await tenancy.release(`victim-${how}`, {
        serviceAccountName: "deployer",
        stages: [{ name: "only", sourceRef: { name: `victim-${how}` } }],
      });
      await untilReady(cluster, { namespace, name: `victim-${how}` });
      await tenancy.publish(`forger-${how}`, { "a.yaml": configMap(`forger-${how}`) });
      await tenancy.release(`forger-${how}`, { serviceAccountName: "deployer", stages });
      await untilReady(cluster, { namespace, name: `forger-${how}` });
      const before = await Promise.all(
        [`bystander-${how}`, `owned-${how}`].map((name) => admin.get(configMapRef(namespace, name))),
      );

      const shard = await shardOf(`forger-${how}`);
      const forged = [`bystander-${how}`, `owned-${how}`].map((name) => ({
        id: `${namespace}_${name}__ConfigMap`,
        v: "v1",
      }));
      const ref = {
        apiVersion: shard.apiVersion,
        kind: shard.kind,
        metadata: { name: shard.metadata.name, namespace },
      };
      await admin.patch(ref, { spec: { entries: [...asArray(at(shard, "spec", "entries")), ...forged] } });

      if (how === "teardown") {
        await admin.delete(stageSetRef(namespace, `forger-${how}`));
        await eventually(async () => (await admin.get(stageSetRef(namespace, `forger-${how}`))) === undefined);
      } else {
        await eventually(async () => asArray(at(await shardOf(`forger-${how}`), "spec", "entries")).length === 1);
        await untilReady(cluster, { namespace, name: `forger-${how}` });
      }
      const after = await Promise.all(
        [`bystander-${how}`, `owned-${how}`].map((name) => admin.get(configMapRef(namespace, name))),
      );
      expect(after).toEqual(before);
    },
  );

  test("no tenant object is touched by the controller's own identity", async () => {
    const since = await auditMark(cluster);
    await using own = await startTenancy(cluster);
    const { namespace, self } = own;
    const account = await own.account("deployer", allRules);
    const secretRef = { apiVersion: "v1", kind: "Secret", metadata: { name: "variables", namespace } };
    await admin.create({ ...secretRef, stringData: { WORD: "spoken" } });
    const files = {
      "a.yaml": configMap("kept", { word: "${WORD}" }),
      "b.yaml": deployment("app", { pods: { readyAfter: "500ms" } }),
    };
    await own.publish("all", { ...files, "c.yaml": configMap("dropped") });
    await own.release("all", {
      serviceAccountName: "deployer",
      stages: [
        {
          name: "only",
          sourceRef: { name: "all" },
          postBuild: { substituteFrom: [{ kind: "Secret", name: "variables" }] },
        },
      ],
    });
    await untilReady(cluster, { namespace, name: "all" });
    await admin.patch(configMapRef(namespace, "kept"), { data: { word: "drifted" } });
    await admin.patch(stageSetRef(namespace, "all"), {
      metadata: { annotations: { [requestedAtAnnotation]: "repair" } },
    });
    await eventually(async () => {
      expect(at(await admin.get(configMapRef(namespace, "kept")), "data")).toEqual({ word: "spoken" });
      return true;
    });
    await own.publish("all", files);
    await eventually(async () => (await admin.get(configMapRef(namespace, "dropped"))) === undefined);
    await eventually(async () => readyOf(await admin.get(stageSetRef(namespace, "all"))) === "True Succeeded");
    await admin.delete(stageSetRef(namespace, "all"));
    await eventually(async () => (await admin.get(stageSetRef(namespace, "all"))) === undefined);

    const asItself = await auditEvents(cluster, { since, username: self.username });
    const touched = new Set(
      asItself
        .filter((event) => event.resource !== "")
        .map((event) => [event.group, event.resource, event.subresource].filter((part) => part !== "").join("/")),
    );
    expect([...touched].sort()).toEqual([
      "apiextensions.k8s.io/customresourcedefinitions",
      "authentication.k8s.io/selfsubjectreviews",
      "events.k8s.io/events",
      "serviceaccounts/token",
      "source.toolkit.fluxcd.io/buckets",
      "source.toolkit.fluxcd.io/externalartifacts",
      "source.toolkit.fluxcd.io/gitrepositories",
      "source.toolkit.fluxcd.io/ocirepositories",
      "stages.metio.wtf/fleetrollouts",
      "stages.metio.wtf/imageverificationpolicies",
      "stages.metio.wtf/stageinventories",
      "stages.metio.wtf/stageledgers",
      "stages.metio.wtf/stagesets",
      "stages.metio.wtf/stagesets/status",
    ]);
    expect(asItself.filter((event) => event.code === 403).map((event) => `${event.verb} ${event.uri}`)).toEqual([]);
    expect(asItself.filter((event) => event.impersonated !== undefined)).toEqual([]);
    const asTenant = await auditEvents(cluster, { since, username: account.username });
    const tenantTouched = new Set(asTenant.map((event) => event.resource).filter((resource) => resource !== ""));
    expect([...tenantTouched].sort()).toEqual(["configmaps", "deployments", "secrets"]);
  });
});
