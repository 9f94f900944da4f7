import type { MessagePort } from "node:worker_threads";
import type { Job, JobReply, JobRequest } from "./job.ts";

/** Answers the pool's requests on this port, one at a time as the pool sends them. */
export function serveJobs(port: MessagePort, jobs: Readonly<Record<string, Job>>): void {
  port.on("message", (request: JobRequest) => void answer(port, jobs, request));
}

async function answer(port: MessagePort, jobs: Readonly<Record<string, Job>>, request: JobRequest): Promise<void> {
  const { id, job, input } = request;
  try {
    const run = Object.hasOwn(jobs, job) ? jobs[job] : undefined;
    if (run === undefined) throw new RangeError("no such job");
    const { output, transfer = [] } = await run(input);
    const reply: JobReply = { id, used: process.threadCpuUsage(), kind: "done", output };
    port.postMessage(reply, [...transfer]);
  } catch (error) {
    const reply: JobReply = { id, used: process.threadCpuUsage(), kind: "failed", error: describeThrown(error) };
    port.postMessage(reply);
  }
}

function describeThrown(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  const frames = (error.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line));
  return [error.name, ...frames.slice(0, 8)].join("\n");
}
