import { readdir } from "node:fs/promises";
import { asNumber, asText, at } from "../../src/lib/json.ts";
import type { ControllerProcess } from "./controller-process.ts";
import { eventually } from "./eventually.ts";

/** For {@link inspect}: the program's environment. */
export const inspected = { NODE_OPTIONS: "--inspect=127.0.0.1:0" } as const;

/** What a program holds on to. */
export interface Holdings {
  /** Of its JavaScript heap and buffers, when the garbage was collected. */
  readonly bytes: number;
  /** Open files, which sockets are. */
  readonly descriptors: number;
  readonly timers: number;
}

/** A program that was started with {@link inspected}, through its inspector (chromedevtools.github.io/devtools-protocol). */
export interface Inspector {
  holdings(): Promise<Holdings>;
}

/** To be called soon after the start, of whose log it reads where the inspector listens. */
export async function inspect(program: Pick<ControllerProcess, "log" | "pid">): Promise<Inspector> {
  const url = await eventually(() => /Debugger listening on (ws:\S+)/.exec(program.log())?.[1]);
  return { holdings: () => holdings(url, program.pid) };
}

async function holdings(url: string, pid: number): Promise<Holdings> {
  const socket = new WebSocket(url);
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve, { once: true });
    socket.addEventListener("error", () => reject(new Error(`Cannot reach the inspector at "${url}"`)), { once: true });
  });
  let last = 0;
  const ask = (method: string, params: Readonly<Record<string, unknown>> = {}): Promise<unknown> =>
    new Promise((resolve) => {
      const id = ++last;
      const take = ({ data }: MessageEvent): void => {
        const message: unknown = JSON.parse(String(data));
        if (at(message, "id") !== id) return;
        socket.removeEventListener("message", take);
        resolve(at(message, "result"));
      };
      socket.addEventListener("message", take);
      socket.send(JSON.stringify({ id, method, params }));
    });
  try {
    await ask("HeapProfiler.enable");
    // What the first lets go of by finalizers, the second collects.
    for (let turn = 0; turn < 2; turn++) await ask("HeapProfiler.collectGarbage");
    const expression = `JSON.stringify({
      bytes: process.memoryUsage().heapUsed + process.memoryUsage().external,
      timers: process.getActiveResourcesInfo().filter((name) => name === "Timeout").length,
    })`;
    const value: unknown = JSON.parse(
      asText(at(await ask("Runtime.evaluate", { expression }), "result", "value")) ?? "{}",
    );
    const bytes = asNumber(at(value, "bytes"));
    const timers = asNumber(at(value, "timers"));
    if (bytes === undefined || timers === undefined) throw new Error("The inspector does not say what is held");
    return { bytes, timers, descriptors: await descriptorsOf(pid) };
  } finally {
    socket.close();
  }
}

async function descriptorsOf(pid: number): Promise<number> {
  return (await readdir(`/proc/${pid}/fd`)).length;
}
