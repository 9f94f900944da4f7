/**
 * All tests: builds the tools they need (minutes when nothing is cached, with progress), runs vitest, writes
 * test-results/vitest.json, ends with the line `N passed, N failed`. Arguments go to vitest.
 */
import { spawn } from "node:child_process";
import { mkdir, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { prometheusPath, shellcheckPath } from "../src/dev/debian-package.ts";
import { chartTools, deliveryTools, kwokTools, toolPaths } from "../src/dev/tools.ts";
import { asArray, asNumber, at } from "../src/lib/json.ts";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const resultsFile = join(root, "test-results", "vitest.json");

process.exitCode = await main();

async function main(): Promise<number> {
  await mkdir(dirname(resultsFile), { recursive: true });
  await rm(resultsFile, { force: true });
  const onProgress = (line: string): void => void process.stderr.write(`${line}\n`);
  await prometheusPath({ onProgress });
  await shellcheckPath({ onProgress });
  await toolPaths(
    [...kwokTools, "kustomize.wasm", "cel.wasm", "registry", "source-controller", ...chartTools, ...deliveryTools],
    {
      onProgress,
    },
  );
  const code = await runVitest(process.argv.slice(2));
  const { passed, failed } = await readCounts();
  process.stdout.write(`\n${passed} passed, ${failed} failed\n`);
  return code !== 0 || failed > 0 ? Math.max(code, 1) : 0;
}

function runVitest(extra: readonly string[]): Promise<number> {
  const require = createRequire(import.meta.url);
  const vitest = join(dirname(require.resolve("vitest/package.json")), "vitest.mjs");
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${resultsFile}`];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [vitest, "run", ...reporters, ...extra], { cwd: root, stdio: "inherit" });
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
    child.once("error", reject);
    child.once("close", (code) => resolve(code ?? 1));
  });
}

/** Counts of the report; a file that could not be run at all counts as one failure. */
async function readCounts(): Promise<{ readonly passed: number; readonly failed: number }> {
  const text = await readFile(resultsFile, "utf8").catch(() => undefined);
  if (text === undefined) return { passed: 0, failed: 1 };
  const report: unknown = JSON.parse(text);
  const broken = asArray(at(report, "testResults")).filter(
    (file) => at(file, "status") === "failed" && asArray(at(file, "assertionResults")).length === 0,
  );
  return {
    passed: asNumber(at(report, "numPassedTests")) ?? 0,
    failed: (asNumber(at(report, "numFailedTests")) ?? 0) + broken.length,
  };
}
