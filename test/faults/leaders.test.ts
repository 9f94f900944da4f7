import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { bindInstallation, controllerToken } from "../support/controller-account.ts";
import { startControllerProcess } from "../support/controller-process.ts";
import { loadFigures, saveFigures } from "./campaign.ts";
import { seededRandom } from "./plan.ts";
import { runLeaders, type LeaderPlan, type LeaderResult } from "./run-leaders.ts";
import { differences, leaseFlags, leaseOf, runPlan, type RunResult } from "./run-plan.ts";

const cluster = testCluster();

// Set by scripts/test-faults.ts.
const takeovers = Number(process.env["STAGESET_FAULT_TAKEOVERS"] ?? 0);
const seed = Number(process.env["STAGESET_FAULT_SEED"] ?? 1);
const resumeFile = process.env["STAGESET_FAULT_RESUME"];

describe("two programs at once", () => {
  let server: ArtifactServer;
  let clean: RunResult;
  beforeAll(async () => {
    server = await startArtifactServer();
    clean = await runPlan({ cluster, server, plan: { name: "no faults", faults: [] } });
  });
  afterAll(() => server.stop());

  /** What differs from a run of one program; a late create may come in vain, so then only the state counts. */
  const judge = (plan: LeaderPlan, result: LeaderResult): readonly string[] => {
    const counts = plan.how === "late" ? clean.counts : result.counts;
    const run = { ...clean, ...result, counts };
    const problems = [...differences(run, clean)];
    // Of two that know nothing of each other one sends a stage back while the other goes on from it, and one runs an action
    // whose record by the other is still on its way to it: an effect carries no precondition, only the lease keeps it single.
    const atOnce = plan.how === "off" || plan.how === "skew";
    if (atOnce) problems.splice(0, Infinity, ...problems.filter((problem) => !/^E[35]:/.test(problem)));
    if (plan.how === "off") return problems;
    if (result.takeovers !== 1) problems.push("nobody took over");
    if (plan.how !== "skew" && result.lateWrites > 0)
      problems.push(`${result.lateWrites} writes of the old leader after it was replaced`);
    if (result.exitCode !== 1) problems.push(`the old leader ended with ${String(result.exitCode)}`);
    return problems;
  };

  test.concurrent(
    "[20.46] a leader paused past its lease writes nothing more, and what another finished stays as it is",
    async () => {
      const plan: LeaderPlan = { name: "pause", how: "pause", write: 31, after: 10 };
      expect(judge(plan, await runLeaders(cluster, { server, plan }))).toEqual([]);
    },
    600_000,
  );

  test.concurrent(
    "[20.46] a write of the paused leader that arrives late creates nothing that stays, and undoes nothing",
    async () => {
      // The first apply of an object, whose release the other leader upgrades meanwhile.
      const plan: LeaderPlan = { name: "late", how: "late", write: 5, after: 70 };
      expect(judge(plan, await runLeaders(cluster, { server, plan }))).toEqual([]);
    },
    600_000,
  );

  test.concurrent(
    "[20.46] a follower whose time runs too fast leads beside the leader for seconds, and what both do is done once",
    async () => {
      const plan: LeaderPlan = { name: "skew", how: "skew", write: 3, after: 0 };
      const result = await runLeaders(cluster, { server, plan });
      expect(judge(plan, result)).toEqual([]);
      console.log(`${result.lateWrites} writes of the old leader after the other one's first`);
    },
    600_000,
  );

  test.concurrent(
    "[60.7] a leader cut off from the API server exits 1 before another one writes",
    async () => {
      const plan: LeaderPlan = { name: "partition", how: "partition", write: 44, after: 10 };
      const result = await runLeaders(cluster, { server, plan });
      expect(judge(plan, result)).toEqual([]);
      expect(result.exitedBefore).toBeGreaterThan(0);
    },
    600_000,
  );

  test.concurrent(
    "[60.7] a leader whose lease was stolen exits 1",
    async () => {
      const namespace = await uniqueNamespace(cluster);
      await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
      await bindInstallation(cluster, { namespace });
      await using program = await startControllerProcess({
        server: cluster.server,
        caPem: cluster.caPem,
        token: await controllerToken(cluster),
        namespaces: [namespace],
        args: leaseFlags(namespace),
      });
      const lease = leaseOf(namespace);
      await eventually(async () => (await cluster.admin.get(lease)) !== undefined, { timeoutMs: 30_000 });
      const thief = { holderIdentity: "thief", renewTime: new Date().toISOString().replace("Z", "000Z") };
      await cluster.admin.patch(lease, { spec: thief });
      expect(await program.ended()).toBe(1);
    },
    120_000,
  );

  test.concurrent(
    "without a lease two at once get in each other's way, and still end where one does",
    async () => {
      const plan: LeaderPlan = { name: "off", how: "off", write: 0, after: 0 };
      expect(judge(plan, await runLeaders(cluster, { server, plan }))).toEqual([]);
    },
    600_000,
  );

  // Asked for with `npm run test:faults -- --takeovers N`: each takes as long as a lease.
  test.runIf(takeovers > 0)(
    "many takeovers",
    async () => {
      const figures = await loadFigures(resumeFile, seed);
      const random = seededRandom(seed + figures.takeovers);
      const plans = Array.from({ length: takeovers }, (_, index): LeaderPlan => {
        const how = (["pause", "late", "partition", "skew"] as const)[index % 4] ?? "pause";
        // One that takes over later finds nothing left to do.
        const latest = how === "skew" ? 10 : clean.size.writes - 15;
        const write = 1 + Math.floor(random() * latest);
        return { name: `${how} ${write}`, how, write, after: 1 + Math.floor(random() * 60) };
      });
      const problems: string[] = [];
      let done = 0;
      const queue = [...plans];
      const worker = async (): Promise<void> => {
        for (let plan = queue.shift(); plan !== undefined; plan = queue.shift()) {
          const current = plan;
          const found = await runLeaders(cluster, { server, plan }).then(
            (result) => {
              done += result.takeovers;
              return judge(current, result);
            },
            (error: unknown) => [String(error)],
          );
          if (found.length > 0) problems.push(`${JSON.stringify(plan)}: ${found.join("; ").slice(0, 2_000)}`);
        }
      };
      await Promise.all(Array.from({ length: 6 }, worker));
      figures.takeovers += done;
      await saveFigures(resumeFile, figures);
      console.log(`${done} takeovers in ${takeovers} runs, ${problems.length} violations`);
      expect(problems).toEqual([]);
    },
    takeovers * 60_000 + 300_000,
  );
});
