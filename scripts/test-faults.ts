/**
 * The fault tests (test/faults). `npm run test:faults` runs what `npm test` runs of them. Long forms:
 * - `-- --minutes M [--only kills|stale|answers|schedules] [--at-once N]`: a campaign; a failing plan alone: `-- --plan FILE`
 * - `-- --takeovers N`: changes of the leader
 * - `-- --specs N`: StageSets with random specs
 * - `-- --releases N [--edits M]`: releases edited at random, from the seed on
 * - `-- --soak M`: one program for that many minutes, and what it holds on to
 * Each takes `--seed S`, and `--resume FILE`, which makes slices that go on where the last one ended and whose figures add up.
 */
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { kwokTools, toolPaths } from "../src/dev/tools.ts";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

process.exitCode = await main();

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string" },
      takeovers: { type: "string" },
      specs: { type: "string" },
      soak: { type: "string" },
      releases: { type: "string" },
      edits: { type: "string" },
      seed: { type: "string", default: "1" },
      resume: { type: "string" },
      only: { type: "string" },
      plan: { type: "string" },
      "at-once": { type: "string", default: "3" },
    },
  });
  await toolPaths([...kwokTools, "kustomize.wasm", "cel.wasm"], {
    onProgress: (line) => void process.stderr.write(`${line}\n`),
  });
  const given = {
    STAGESET_FAULT_MINUTES: values.minutes,
    STAGESET_FAULT_SEED: values.seed,
    STAGESET_FAULT_RESUME: values.resume === undefined ? undefined : resolve(values.resume),
    STAGESET_FAULT_PLAN: values.plan === undefined ? undefined : resolve(values.plan),
    STAGESET_FAULT_ONLY: values.only,
    STAGESET_FAULT_RUNS: values["at-once"],
    STAGESET_FAULT_TAKEOVERS: values.takeovers,
    STAGESET_FAULT_SPECS: values.specs,
    STAGESET_FAULT_SOAK: values.soak,
    STAGESET_FAULT_RELEASES: values.releases,
    STAGESET_FAULT_EDITS: values.edits,
  };
  const env = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const isWhole = values.minutes === undefined && values.plan === undefined;
  if (values.takeovers !== undefined) return runVitest(["test/faults/leaders.test.ts", "-t", "many takeovers"], env);
  if (values.specs !== undefined) return runVitest(["test/faults/fuzz.test.ts"], env);
  if (values.soak !== undefined) return runVitest(["test/faults/soak.test.ts"], env);
  if (values.releases !== undefined) return runVitest(["test/faults/releases.test.ts"], env);
  return runVitest(isWhole ? ["test/faults"] : ["test/faults/schedules.test.ts"], env);
}

function runVitest(files: readonly string[], env: Readonly<Record<string, string | undefined>>): Promise<number> {
  const require = createRequire(import.meta.url);
  const vitest = join(dirname(require.resolve("vitest/package.json")), "vitest.mjs");
  return new Promise((settle, reject) => {
    const args = [vitest, "run", "--project", "apiserver", ...files];
    const child = spawn(process.execPath, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
    child.once("error", reject);
    child.once("close", (code) => settle(code ?? 1));
  });
}
