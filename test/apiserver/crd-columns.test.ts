import { request } from "node:https";
import { describe, expect, test } from "vitest";
import { apiVersion } from "../../src/api/group.ts";
import { asArray, asText, at } from "../../src/lib/json.ts";
import { testCluster, type TestCluster, uniqueName, uniqueNamespace } from "../support/cluster.ts";
import type { Manifest } from "../support/test-client.ts";

interface Table {
  /** As kubectl prints it: `Name`, or `Name+` for a column shown with `-o wide` only. */
  readonly columns: readonly string[];
  /** Of the one row there is, without the age. */
  readonly cells: Readonly<Record<string, unknown>>;
}

/** What kubectl prints of one object. */
async function tableOf(cluster: TestCluster, manifest: Manifest): Promise<Table> {
  const path = await cluster.admin.path({
    ...manifest,
    metadata: { ...manifest.metadata, name: manifest.metadata.name ?? "" },
  });
  const table = await new Promise<unknown>((resolve, reject) => {
    const headers = {
      authorization: `Bearer ${cluster.adminToken}`,
      accept: "application/json;as=Table;v=v1;g=meta.k8s.io",
    };
    const outgoing = request(new URL(path, cluster.server), { ca: cluster.caPem, headers }, (incoming) => {
      const chunks: Buffer[] = [];
      incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
      incoming.once("end", () => resolve(JSON.parse(Buffer.concat(chunks).toString())));
    });
    outgoing.once("error", reject);
    outgoing.end();
  });
  const definitions = asArray(at(table, "columnDefinitions"));
  const names = definitions.map((one) => asText(at(one, "name")) ?? "");
  const cells = asArray(at(asArray(at(table, "rows"))[0], "cells"));
  return {
    columns: definitions.map((one, index) => `${names[index] ?? ""}${at(one, "priority") === 0 ? "" : "+"}`),
    cells: Object.fromEntries(
      names.map((name, index): [string, unknown] => [name, cells[index]]).filter(([name]) => name !== "Age"),
    ),
  };
}

describe("columns of kubectl get", () => {
  const cluster = testCluster();
  const { admin } = cluster;

  async function created(manifest: Manifest, status?: unknown): Promise<Manifest> {
    const object = await admin.create(manifest);
    if (status !== undefined) await admin.patchStatus(object, status);
    return manifest;
  }

  test("[10.2] a StageSet shows whether it is ready and why", async () => {
    const metadata = { name: "shop", namespace: await uniqueNamespace(cluster) };
    const spec = { stages: [{ name: "web", sourceRef: { name: "app" } }] };
    const common = { lastTransitionTime: "2026-01-31T08:00:00Z" };
    const conditions = [
      { ...common, type: "Reconciling", status: "True", reason: "Soaking", message: "other" },
      { ...common, type: "Ready", status: "False", reason: "Soaking", message: 'Stage "web" soaks' },
    ];
    const manifest = await created({ apiVersion, kind: "StageSet", metadata, spec }, { version: "1.4.0", conditions });
    expect(await tableOf(cluster, manifest)).toEqual({
      columns: ["Name", "Ready", "Status", "Age", "Reason+", "Version+"],
      cells: { Name: "shop", Ready: "False", Status: 'Stage "web" soaks', Reason: "Soaking", Version: "1.4.0" },
    });
  });

  test("[10.2] a StageInventory shows its stage", async () => {
    const labels = { "stages.metio.wtf/stage": "web" };
    const metadata = { name: "shop-web-00", namespace: await uniqueNamespace(cluster), labels };
    const manifest = await created({ apiVersion, kind: "StageInventory", metadata, spec: {} });
    expect(await tableOf(cluster, manifest)).toEqual({
      columns: ["Name", "Stage", "Age"],
      cells: { Name: "shop-web-00", Stage: "web" },
    });
  });

  test("[10.2] a StageLedger of 3 completions shows 3", async () => {
    const metadata = { name: "shop", namespace: await uniqueNamespace(cluster) };
    const completedActions = ["a", "b", "c"].map((action) => ({
      ...{ stage: "web", action, origin: "Executed", completedAt: "2026-01-31T08:00:00Z" },
    }));
    const manifest = await created(
      { apiVersion, kind: "StageLedger", metadata },
      { completedActions, completedCount: 3 },
    );
    expect(await tableOf(cluster, manifest)).toEqual({
      columns: ["Name", "Completed+", "Age"],
      cells: { Name: "shop", Completed: 3 },
    });
  });

  test("[10.2] a FleetRollout shows target, phase and wave", async () => {
    const metadata = { name: uniqueName() };
    const spec = { targetVersion: "2.0.0", selector: {}, waves: [{ name: "first", selector: {} }] };
    const status = { phase: "InProgress", currentWave: "first" };
    const manifest = await created({ apiVersion, kind: "FleetRollout", metadata, spec }, status);
    expect(await tableOf(cluster, manifest)).toEqual({
      columns: ["Name", "Target", "Phase", "Wave", "Age"],
      cells: { Name: metadata.name, Target: "2.0.0", Phase: "InProgress", Wave: "first" },
    });
  });

  test("[10.2] an ImageVerificationPolicy shows its images", async () => {
    const metadata = { name: uniqueName() };
    const spec = { images: ["registry.example/none/**"] };
    const manifest = await created({ apiVersion, kind: "ImageVerificationPolicy", metadata, spec });
    expect(await tableOf(cluster, manifest)).toEqual({
      columns: ["Name", "Images", "Age"],
      cells: { Name: metadata.name, Images: '["registry.example/none/**"]' },
    });
  });
});
