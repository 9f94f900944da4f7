import { Worker } from "node:worker_threads";
import { at, asNumber } from "../../src/lib/json.ts";

export interface FloodSettings {
  readonly port: number;
  /** One connection each: says nothing, sends headers without end, or asks for these paths in turn. */
  readonly habits: readonly ("silent" | "slow" | readonly string[])[];
  /** From an answer to the next question. */
  readonly pauseMs: number;
  /** A connection that was closed is opened again after this long. */
  readonly againMs: number;
}

/** Clients that lean on a gate until disposed. */
export interface GateFlood extends AsyncDisposable {
  readonly answers: number;
  /** Connections that are open now. */
  readonly open: number;
}

export function startGateFlood(settings: FloodSettings): GateFlood {
  const counts = { answers: 0, open: 0 };
  const worker = new Worker(new URL("./gate-flood-worker.ts", import.meta.url), { workerData: settings });
  worker.on("message", (message: unknown) => {
    counts.answers = asNumber(at(message, "answers")) ?? 0;
    counts.open = asNumber(at(message, "open")) ?? 0;
  });
  return Object.assign(counts, {
    [Symbol.asyncDispose]: async () => {
      await worker.terminate();
    },
  });
}
