import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { startTestController } from "../support/controller.ts";
import { loadFigures, saveFigures } from "./campaign.ts";
import { startFlakyServer } from "./flaky-server.ts";
import { addCounts, collectionTimeoutMs, noCounts, Play, type PlayScene } from "./play-release.ts";
import { bugsIn } from "./run-plan.ts";

const cluster = testCluster();

// Set by scripts/test-faults.ts.
const releases = Number(process.env["STAGESET_FAULT_RELEASES"] ?? 8);
const edits = Number(process.env["STAGESET_FAULT_EDITS"] ?? 6);
const resumeFile = process.env["STAGESET_FAULT_RESUME"];
const figures = await loadFigures(resumeFile, Number(process.env["STAGESET_FAULT_SEED"] ?? 1));
/** Of the first release; each has the next one. */
const seed = Number(process.env["STAGESET_FAULT_SEED"] ?? 1) + figures.releases;
const atOnce = 8;

interface Scene extends PlayScene, AsyncDisposable {
  readonly logs: readonly string[];
}

interface Weather {
  /** The controller is replaced by a new one, which knows nothing, that often; undefined: never. */
  readonly livesMs: number | undefined;
  /** The share of requests, and of watch events, that something happens to. */
  readonly faults: number;
}

async function startScene({ livesMs, faults }: Weather): Promise<Scene> {
  const namespace = await uniqueNamespace(cluster);
  for (const name of ["deployer", "other"]) await createServiceAccount(cluster, { namespace, name, rules: allRules });
  const server = await startArtifactServer();
  const proxy = faults === 0 ? undefined : await startFlakyServer(cluster, { share: faults, seed });
  const address = proxy === undefined ? {} : { server: proxy.server };
  const start = () => startTestController(cluster, { namespaces: [namespace], ...address });
  let controller = await start();
  const logs: string[] = [];
  const abort = new AbortController();
  const replacing = (async () => {
    while (livesMs !== undefined) {
      await delay(livesMs, undefined, { signal: abort.signal });
      await controller[Symbol.asyncDispose]();
      logs.push(...controller.logs);
      controller = await start();
    }
  })().catch((error: unknown) => {
    if (!abort.signal.aborted) throw error;
  });
  return {
    cluster,
    namespace,
    server,
    get logs() {
      return [...logs, ...controller.logs];
    },
    async [Symbol.asyncDispose]() {
      abort.abort();
      await replacing;
      await controller[Symbol.asyncDispose]();
      await proxy?.[Symbol.asyncDispose]();
      await server.stop();
    },
  };
}

describe.each<readonly [string, Weather]>([
  ["by one controller", { livesMs: undefined, faults: 0 }],
  [
    "by controllers of which each lives for 4 s, through an API server that fails now and then",
    { livesMs: 4_000, faults: 0.02 },
  ],
])("any sequence of edits, released %s", (_how, weather) => {
  let scene: Scene;
  beforeAll(async () => {
    scene = await startScene(weather);
  });
  afterAll(() => scene[Symbol.asyncDispose]());

  test(
    "ends as its last state says: objects, owners and records, nothing orphaned, nothing made anew",
    async () => {
      const failures: string[] = [];
      const total = noCounts();
      const queue = Array.from({ length: releases }, (_, index) => seed + index);
      const worker = async (): Promise<void> => {
        for (let own = queue.shift(); own !== undefined; own = queue.shift()) {
          const play = new Play(scene, { name: `r${own}`, seed: own });
          await play.run({ edits }).catch((error: unknown) => {
            const replay = `npm run test:faults -- --releases 1 --edits ${edits} --seed ${String(own)}`;
            failures.push(`seed ${String(own)} (${replay}):\n${play.log.join("\n")}\n${String(error)}`);
          });
          addCounts(total, play.counts);
        }
      };
      await Promise.all(Array.from({ length: atOnce }, worker));
      figures.edits += total.edits;
      if (weather.faults === 0) figures.releases += releases;
      await saveFigures(resumeFile, figures);
      console.log(
        `${releases} releases from seed ${seed}: ${total.edits} edits, of which ${total.hurried} did not wait for the ` +
          `one before, ${total.suspended} came while suspended and ${total.refused} were refused; ` +
          `${total.foreign} edits by others; ${failures.length} violations`,
      );
      expect(failures.join("\n\n")).toBe("");
      const bugs = bugsIn(scene.logs.join("\n"));
      expect(bugs).toEqual([]);
    },
    releases * 60_000 + collectionTimeoutMs,
  );
});
