import { describe, expect, test } from "vitest";
import { asNumber, at } from "../../src/lib/json.ts";
import { publishArtifact, sha256, startArtifactServer } from "../support/artifacts.ts";
import {
  allRules,
  auditEvents,
  auditMark,
  createServiceAccount,
  eventually,
  testCluster,
  uniqueNamespace,
} from "../support/cluster.ts";
import { TestApiError } from "../support/test-client.ts";

describe("the control plane tests run against", () => {
  const cluster = testCluster();
  const { admin } = cluster;

  test("creates, reads, patches, lists and deletes objects", async () => {
    const namespace = await uniqueNamespace(cluster);
    const ref = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "a", namespace } };
    await admin.create({ ...ref, data: { k: "1" } });
    await admin.patch(ref, { data: { k: "2" } });
    await admin.apply({ ...ref, data: { l: "3" } });
    expect(await admin.get(ref)).toMatchObject({ data: { k: "2", l: "3" } });
    expect((await admin.list({ ...ref, namespace })).map((one) => one.metadata.name)).toContain("a");
    await admin.delete(ref);
    expect(await admin.get(ref)).toBeUndefined();
  });

  test("a watch yields what happens", async () => {
    const namespace = await uniqueNamespace(cluster);
    const ref = { apiVersion: "v1", kind: "Secret", namespace };
    const stop = new AbortController();
    const seen: string[] = [];
    const watching = (async () => {
      for await (const { type, object } of admin.watch(ref, { signal: stop.signal })) {
        seen.push(`${type} ${object.metadata.name}`);
      }
    })();
    await admin.create({ apiVersion: "v1", kind: "Secret", metadata: { name: "s", namespace } });
    await eventually(() => seen.includes("ADDED s"));
    stop.abort();
    await watching;
  });

  test("a ServiceAccount may do what its rules say, and the audit log has its name", async () => {
    const namespace = await uniqueNamespace(cluster);
    const account = await createServiceAccount(cluster, { namespace, name: "tenant", rules: allRules });
    const mark = await auditMark(cluster);
    const tenant = cluster.as(account.token);
    await tenant.create({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "own", namespace } });
    const foreign = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "foreign", namespace: "default" } };
    await expect(tenant.create(foreign)).rejects.toThrow(TestApiError);
    const writes = await auditEvents(cluster, { since: mark, username: account.username, verbs: ["create"] });
    expect(writes.map(({ namespace: where, code }) => [where, code])).toEqual([
      [namespace, 201],
      ["default", 403],
    ]);
  });

  test("a pod is ready no sooner than its annotation says", async () => {
    const namespace = await uniqueNamespace(cluster);
    const labels = { app: "web" };
    const annotations = { "bench.local/ready-after": "1500ms" };
    const template = { metadata: { labels, annotations }, spec: { containers: [{ name: "c", image: "i" }] } };
    const spec = { replicas: 2, selector: { matchLabels: labels }, template };
    const ref = { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "web", namespace } };
    const started = performance.now();
    await admin.create({ ...ref, spec });
    await eventually(async () => asNumber(at(await admin.get(ref), "status", "readyReplicas")) === 2, {
      timeoutMs: 20_000,
    });
    expect(performance.now() - started).toBeGreaterThan(1500);
  });

  test("a Job ends as its annotation says", async () => {
    const namespace = await uniqueNamespace(cluster);
    const job = (name: string, annotations: Record<string, string>): Promise<unknown> => {
      const template = {
        metadata: { annotations },
        spec: { restartPolicy: "Never", containers: [{ name: "c", image: "i" }] },
      };
      return admin.create({
        apiVersion: "batch/v1",
        kind: "Job",
        metadata: { name, namespace },
        spec: { backoffLimit: 0, template },
      });
    };
    await job("good", {});
    await job("bad", { "bench.local/fail": "true" });
    const status = async (name: string): Promise<unknown> =>
      at(await admin.get({ apiVersion: "batch/v1", kind: "Job", metadata: { name, namespace } }), "status");
    await eventually(async () => expect(await status("good")).toMatchObject({ succeeded: 1 }), { timeoutMs: 20_000 });
    await eventually(async () => expect(await status("bad")).toMatchObject({ failed: 1 }), { timeoutMs: 20_000 });
  });

  test("a published artifact is served with its digest, and moves on", async () => {
    const namespace = await uniqueNamespace(cluster);
    await using server = await startArtifactServer();
    const first = await publishArtifact(cluster, { server, namespace, name: "app", files: { "a.yaml": "a: 1\n" } });
    const bytes = Buffer.from(await (await fetch(first.url)).arrayBuffer());
    expect(sha256(bytes)).toBe(first.digest);
    expect(server.count(first.path)).toBe(1);
    const second = await publishArtifact(cluster, { server, namespace, name: "app", files: { "a.yaml": "a: 2\n" } });
    expect(at(second.object, "status", "artifact", "revision")).toBe(second.revision);
    expect(second.revision).not.toBe(first.revision);
  });
});
