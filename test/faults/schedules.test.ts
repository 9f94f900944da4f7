import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { auditEvents, auditMark, testCluster } from "../support/cluster.ts";
import {
  describeFigures,
  endlessPlans,
  focusOf,
  loadFigures,
  longQuietMs,
  noFigures,
  runCampaign,
  samplePlans,
  saveFigures,
  type Figures,
} from "./campaign.ts";
import type { FaultPlan } from "./plan.ts";
import { differences, runPlan, type RunResult } from "./run-plan.ts";
import { controllerUsername } from "../support/controller-account.ts";

const cluster = testCluster();

// Set by scripts/test-faults.ts.
const minutes = Number(process.env["STAGESET_FAULT_MINUTES"] ?? 0);
const planFile = process.env["STAGESET_FAULT_PLAN"];
const resumeFile = process.env["STAGESET_FAULT_RESUME"];
const seed = Number(process.env["STAGESET_FAULT_SEED"] ?? 1);
const atOnce = Number(process.env["STAGESET_FAULT_RUNS"] ?? 3);
const only = focusOf(process.env["STAGESET_FAULT_ONLY"]);
const isLong = minutes > 0;

describe("the reference release while things go wrong", () => {
  let server: ArtifactServer;
  let clean: RunResult;
  let mark: number;
  beforeAll(async () => {
    server = await startArtifactServer();
    mark = await auditMark(cluster);
    // Counted for the kinds of faults: where the program is killed, it runs as a program.
    const plan: FaultPlan = { name: "no faults", faults: [], quietMs: isLong ? longQuietMs : 6_000 };
    clean = await runPlan({ cluster, server, plan });
  });
  afterAll(() => server.stop());

  test("[20.12] a run without faults breaks no rule, is as long as it is meant to be, and writes nothing once it is done", () => {
    expect(clean.problems).toEqual([]);
    expect(clean.size.writes).toBeGreaterThanOrEqual(60);
  });

  // One form a run: the bounded one, the campaign of `npm run test:faults`, or the replay of one plan.
  test.skipIf(isLong || planFile !== undefined)(
    "[20.12] killed at any write or with any schedule of faults, it ends as an undisturbed run does and orphans nothing",
    async () => {
      const figures = noFigures(seed);
      const plans = samplePlans(clean.size, { kills: 14, stale: 2, frozen: 3, schedules: 10, quiet: 4, seed });
      await runCampaign({ cluster, server, figures, clean, plans, atOnce });
      console.log(describeFigures(figures));
      expect(figures.violations).toEqual([]);
      expect(figures.runs).toBeGreaterThan(plans.length / 2);
    },
    900_000,
  );

  test.runIf(isLong)(
    "a slice of the endless list of plans",
    async () => {
      const figures: Figures = await loadFigures(resumeFile, seed);
      const before = figures.violations.length;
      const endAt = performance.now() + minutes * 60_000;
      const plans = endlessPlans(clean.size, { figures, ...(only === undefined ? {} : { only }) });
      await runCampaign({ cluster, server, figures, clean, plans, atOnce, endAt });
      await saveFigures(resumeFile, figures);
      console.log(`over all slices: ${describeFigures(figures)}`);
      expect(figures.violations.slice(before)).toEqual([]);
    },
    (minutes + 10) * 60_000,
  );

  test.runIf(planFile !== undefined)(
    "one plan",
    async () => {
      const plan = JSON.parse(await readFile(planFile ?? "", "utf8")) as FaultPlan; // As a campaign wrote it.
      const result = await runPlan({ cluster, server, plan });
      console.log(`${result.struck.length} faults struck in ${result.seconds.toFixed(1)} s`);
      expect(differences(result, clean)).toEqual([]);
    },
    300_000,
  );

  test("no object of a tenant was asked for, or written, as the controller itself", async () => {
    const own = /^(stagesets|stageinventories|stageledgers|fleetrollouts|events|leases|serviceaccounts)$/;
    const foreign = await auditEvents(cluster, {
      since: mark,
      username: controllerUsername,
      where: (event) =>
        event.userAgent.startsWith("stageset-controller/") &&
        event.namespace.startsWith("life-") &&
        event.group !== "source.toolkit.fluxcd.io" &&
        !(own.test(event.resource) && (event.resource !== "serviceaccounts" || event.subresource === "token")),
    });
    expect(foreign.map((event) => `${event.verb} ${event.uri}`)).toEqual([]);
  });
});
