import { Agent, request } from "node:http";
import { getRequest, mergePatchRequest } from "../../src/kube/request.ts";
import { sleep, systemClock } from "../../src/lib/clock.ts";
import { externalArtifacts, stageSets, type BenchCluster, type MeasuredProgram } from "./cluster.ts";

/** What was measured of the gate; times in ms. */
export interface GateMeasured {
  readonly confirmedP99: number;
  /** The two live reads of a confirmation, by a bare client. */
  readonly readsP99: number;
  readonly closedP99: number;
  /** Closed answers per second of the controller's CPU: what one core gives. */
  readonly closedPerCore: number;
  /** Closed answers per second of the clock, the reader sharing the machine. */
  readonly closedPerSecond: number;
}

const confirmations = 400;
/** Below the bound of 50 confirmations a second, so that none is refused. */
const confirmationsPerSecond = 40;
const closedAnswers = 4_000;
const throughputMs = 5_000;

/** Asks the gate for `stageset`, which is Ready, then suspends it and asks again. */
export async function measureGate(
  cluster: BenchCluster,
  program: MeasuredProgram,
  stage: { readonly namespace: string; readonly name: string; readonly stage: string },
): Promise<GateMeasured> {
  const { namespace, name } = stage;
  const url = `http://127.0.0.1:${program.gatePort}/gate/${namespace}/${name}/${stage.stage}`;
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  const timed = async (status: number): Promise<number> => {
    const began = systemClock.monotonic();
    const got = await ask(agent, url);
    if (got !== status) throw new Error(`the gate answered ${got}, not ${status}`);
    return systemClock.monotonic() - began;
  };
  try {
    await timed(200);
    const confirmed: number[] = [];
    const reads: number[] = [];
    for (let count = 0; count < confirmations; count++) {
      confirmed.push(await timed(200));
      const began = systemClock.monotonic();
      await cluster.client.send(getRequest(stageSets, { namespace, name }));
      await cluster.client.send(getRequest(externalArtifacts, { namespace, name }));
      reads.push(systemClock.monotonic() - began);
      await sleep(systemClock, 1_000 / confirmationsPerSecond);
    }
    await cluster.client.send(mergePatchRequest(stageSets, { namespace, name, patch: { spec: { suspend: true } } }));
    for (const giveUpAt = systemClock.monotonic() + 5_000; (await ask(agent, url)) !== 403;)
      if (systemClock.monotonic() > giveUpAt) throw new Error("the gate does not close");
    await sleep(systemClock, 500); // Until the cache has it: then nothing is confirmed any more.
    const closed: number[] = [];
    for (let count = 0; count < closedAnswers; count++) closed.push(await timed(403));
    const { cpuMs, elapsedMs, answers } = await throughput(program, () => timed(403));
    return {
      confirmedP99: p99(confirmed),
      readsP99: p99(reads),
      closedP99: p99(closed),
      closedPerCore: Math.round(answers / (cpuMs / 1_000)),
      closedPerSecond: Math.round(answers / (elapsedMs / 1_000)),
    };
  } finally {
    agent.destroy();
  }
}

async function throughput(program: MeasuredProgram, once: () => Promise<unknown>) {
  const cpuBefore = await program.cpuMs();
  const began = systemClock.monotonic();
  let answers = 0;
  const read = async (): Promise<void> => {
    for (; systemClock.monotonic() - began < throughputMs; answers++) await once();
  };
  await Promise.all(Array.from({ length: 16 }, read));
  return { answers, elapsedMs: systemClock.monotonic() - began, cpuMs: (await program.cpuMs()) - cpuBefore };
}

function p99(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return Math.round((sorted[Math.floor((sorted.length - 1) * 0.99)] ?? 0) * 100) / 100;
}

function ask(agent: Agent, url: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { agent }, (incoming) => {
      incoming.resume();
      incoming.once("end", () => resolve(incoming.statusCode ?? 0));
    });
    outgoing.once("error", reject);
    outgoing.end();
  });
}
