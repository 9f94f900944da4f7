import { parentPort } from "node:worker_threads";
import { ladderJob, ladderJobName } from "../build/ladder-job.ts";
import { renderJob, renderJobName } from "../build/render-job.ts";
import { serveJobs } from "../compute/serve-jobs.ts";
import { celJob } from "../engine/facts/cel-job.ts";
import { yamlJob, yamlJobName } from "../identity/remote/yaml-job.ts";
import { bundleJobName } from "../images/bundle-to-check.ts";

// The entry of the compute pool's workers (src/compute/pool.ts).
if (parentPort === null) throw new Error("this module runs in a worker only");
serveJobs(parentPort, {
  [renderJobName]: renderJob,
  cel: celJob,
  [ladderJobName]: ladderJob,
  [yamlJobName]: yamlJob,
  [bundleJobName]: async (input) => (await import("../images/bundle-job.ts")).bundleJob(input),
});
