import fc from "fast-check";
import { expect, test } from "vitest";
import { asArray, at } from "../../src/lib/json.ts";
import { publishArtifact, startArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { configMap, messageOf, readyOf, stageSetRef, startTestController } from "../support/controller.ts";
import { editedSpec } from "../support/random-spec.ts";
import { TestApiError } from "../support/test-client.ts";
import { loadFigures, saveFigures } from "./campaign.ts";

const cluster = testCluster();
const { admin } = cluster;

// Set by scripts/test-faults.ts.
const releases = Number(process.env["STAGESET_FAULT_SPECS"] ?? 24);
const edits = 5;
const seed = Number(process.env["STAGESET_FAULT_SEED"] ?? 1);
const resumeFile = process.env["STAGESET_FAULT_RESUME"];

test(
  "a spec the API server takes is run or InvalidSpec, whatever came before; a good one after it ends like a good one alone",
  async () => {
    const figures = await loadFigures(resumeFile, seed);
    const from = seed * 1_000 + figures.specStageSets;
    const namespace = await uniqueNamespace(cluster);
    await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
    await using server = await startArtifactServer();
    const names = Array.from({ length: releases }, (_, index) => `r${index}`);
    const files = Object.fromEntries(names.map((name) => [`${name}/map.yaml`, configMap(name, { v: "good" })]));
    await publishArtifact(cluster, { server, namespace, name: "app", revision: "v1", files });
    await using controller = await startTestController(cluster, { namespaces: [namespace] });
    const counts = { taken: 0, refused: 0, reasons: new Map<string, number>() };
    const settled = async (name: string, wanted?: string): Promise<string> => {
      let last = "";
      await eventually(
        async () => {
          const stageSet = await admin.get(stageSetRef(namespace, name));
          last = `${readyOf(stageSet)}: ${messageOf(stageSet)}`;
          expect(at(stageSet, "status", "observedGeneration"), last).toBe(stageSet?.metadata.generation);
          expect(readyOf(stageSet), last).toMatch(wanted ?? /^(True|False) /);
          return true;
        },
        { timeoutMs: 60_000, intervalMs: 100 },
      );
      return last;
    };
    const play = async (name: string, index: number): Promise<void> => {
      const good = {
        interval: "2s",
        retryInterval: "1s",
        serviceAccountName: "deployer",
        stages: [{ name: "only", path: name, sourceRef: { name: "app" } }],
      };
      const ref = stageSetRef(namespace, name);
      const specs = fc.sample(editedSpec(good), { numRuns: edits, seed: from + index });
      let exists = false;
      for (const spec of specs) {
        try {
          if (exists) {
            const live = await admin.get(ref);
            await admin.replace({ ...ref, metadata: { ...live?.metadata, name }, spec });
          } else await admin.create({ ...ref, spec });
          exists = true;
        } catch (error) {
          if (!(error instanceof TestApiError)) throw error;
          if (error.status !== 409) counts.refused++;
          continue;
        }
        counts.taken++;
        const reason = (await settled(name)).replace(/:.*$/s, "");
        counts.reasons.set(reason, (counts.reasons.get(reason) ?? 0) + 1);
      }
      // By then a stage may have left objects of another namespace, which are to be pruned, not kept.
      await admin.apply({ ...ref, spec: good }, { fieldManager: "fuzz" }).catch(() => undefined);
      await eventually(async () => {
        const live = await admin.get(ref);
        if (live === undefined) await admin.create({ ...ref, spec: good });
        else await admin.replace({ ...ref, metadata: { ...live.metadata }, spec: good });
        return true;
      });
      await settled(name, "True Succeeded");
      const map = await admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace } });
      expect(map?.["data"]).toEqual({ v: "good" });
      const labelSelector = `stages.metio.wtf/stage-set=${name}`;
      await eventually(async () => {
        const shards = await admin.list(
          { apiVersion: "stages.metio.wtf/v1", kind: "StageInventory", namespace },
          { labelSelector },
        );
        const ids = shards.flatMap((shard) => asArray(at(shard, "spec", "entries")).map((entry) => at(entry, "id")));
        expect(ids).toEqual([`${namespace}_${name}__ConfigMap`]);
        return true;
      });
    };
    const queue = names.entries();
    const worker = async (): Promise<void> => {
      for (const [index, name] of queue) await play(name, index);
    };
    await Promise.all(Array.from({ length: 8 }, worker));
    figures.specs += counts.taken;
    figures.specStageSets += releases;
    await saveFigures(resumeFile, figures);
    const bugs = controller.logs.filter((line) => /unexpected reason|does not end/.test(line));
    console.log(
      `${counts.taken} specs taken, ${counts.refused} refused by the API server: ${JSON.stringify([...counts.reasons])}`,
    );
    expect(bugs).toEqual([]);
    expect(counts.taken).toBeGreaterThan(releases);
  },
  releases * 20_000 + 300_000,
);
