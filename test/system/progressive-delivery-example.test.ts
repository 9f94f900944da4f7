import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";

const script = fileURLToPath(new URL("../../scripts/progressive-delivery.ts", import.meta.url));

/** Command lines of all processes that name a text. */
async function processesNaming(text: string): Promise<readonly string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")));
  return lines.filter((line) => line.includes(text));
}

test("[20.35] the example releases twice through a canary that asks the gauge, then waits; interrupted, it leaves nothing behind", async () => {
  const child = spawn(process.execPath, [script, "--keep"], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
  try {
    await eventually(
      () => {
        expect(child.exitCode, output).toBeNull();
        return output.includes("Left running");
      },
      { timeoutMs: 100_000, intervalMs: 200 },
    );
    // In order: the later stage stays closed while the Rollout pauses in its steps, and opens when it is Healthy.
    const second = output.slice(output.indexOf("Publishing revision 2"));
    expect(second).toMatch(/after +Pending +v1\n +Rollout cart: Paused, step 3 of 4, analysis Successful\n.*: 403 /);
    expect(second).toMatch(/after +Ready +v2\n +Rollout cart: Healthy, step 4 of 4, analysis Successful\n.*: 200 /);
    const [dir = "nothing"] = /\/\S*stageset-progressive-delivery-[^/]+/.exec(output) ?? [];
    expect((await processesNaming(dir)).length).toBeGreaterThan(3);
    child.kill("SIGINT");
    expect(await ended).toBe(0);
    expect(await processesNaming(dir)).toEqual([]);
    expect(existsSync(dir)).toBe(false);
  } finally {
    child.kill("SIGINT");
    await ended;
  }
});
