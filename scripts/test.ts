/**
 * All tests: builds the tools they need (minutes when nothing is cached, with progress), runs vitest, writes
 * test-results/vitest.json, ends with the line `N passed, N failed`. Arguments go to vitest.
 *
 * When few files failed, they run once more on a control plane of their own; what passes then is named, because a test
 * that needs two tries is a defect. Violations of safety are never tried twice.
 */
import { spawn } from "node:child_process";
import { mkdir, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { chromiumPath, prometheusPath, shellcheckPath } from "../src/dev/debian-package.ts";
import { chartTools, deliveryTools, kwokTools, signingTools, sopsTools, toolPaths } from "../src/dev/tools.ts";
import { asArray, asNumber, asText, at } from "../src/lib/json.ts";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const resultsFile = join(root, "test-results", "vitest.json");
const secondResultsFile = join(root, "test-results", "second-try.json");
/** More is no accident. */
const mostSecondTries = 3;
/** What these find happens once in many runs, or is about the whole run. */
const neverTriedTwice = /^test\/(faults|afterwards)\/|^$|\/gate-stress/;

process.exitCode = await main();

async function main(): Promise<number> {
  await mkdir(dirname(resultsFile), { recursive: true });
  for (const file of [resultsFile, secondResultsFile]) await rm(file, { force: true });
  const onProgress = (line: string): void => void process.stderr.write(`${line}\n`);
  await prometheusPath({ onProgress });
  await shellcheckPath({ onProgress });
  await chromiumPath({ onProgress });
  await toolPaths(
    [
      ...kwokTools,
      "kustomize.wasm",
      "cel.wasm",
      "registry",
      "source-controller",
      ...chartTools,
      ...signingTools,
      ...sopsTools,
      ...deliveryTools,
    ],
    {
      onProgress,
    },
  );
  const extra = process.argv.slice(2);
  const code = await runVitest(extra, resultsFile);
  const first = await readReport(resultsFile);
  const second = extra.length === 0 ? await tryAgain(first) : undefined;
  const passed = second === undefined ? first.passed : first.passed + first.failures.length;
  const failed = second === undefined ? first.failures.length : 0;
  if (second !== undefined)
    process.stdout.write(`\nPassed only when tried again, which is a defect to mend:\n${second.join("\n")}\n`);
  process.stdout.write(`\n${passed} passed, ${failed} failed\n`);
  if (failed > 0) return Math.max(code, 1);
  return second === undefined ? code : 0;
}

interface Failure {
  readonly file: string;
  readonly title: string;
}

interface Report {
  readonly passed: number;
  /** A file that could not be run at all counts as one. */
  readonly failures: readonly Failure[];
}

/** The titles of what failed, when all of its files passed whole at a second try; undefined: they are failures. */
async function tryAgain({ failures }: Report): Promise<readonly string[] | undefined> {
  const files = [...new Set(failures.map(({ file }) => file))];
  if (files.length === 0 || files.length > mostSecondTries || files.some((file) => neverTriedTwice.test(file)))
    return undefined;
  process.stdout.write(`\nTrying again, alone: ${files.join(", ")}\n`);
  const code = await runVitest(files, secondResultsFile);
  const { passed, failures: again } = await readReport(secondResultsFile);
  return code === 0 && again.length === 0 && passed > 0
    ? failures.map(({ file, title }) => `${file} ${title}`)
    : undefined;
}

function runVitest(extra: readonly string[], outputFile: string): Promise<number> {
  const require = createRequire(import.meta.url);
  const vitest = join(dirname(require.resolve("vitest/package.json")), "vitest.mjs");
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${outputFile}`];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [vitest, "run", ...reporters, ...extra], { cwd: root, stdio: "inherit" });
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
    child.once("error", reject);
    child.once("close", (code) => resolve(code ?? 1));
  });
}

async function readReport(file: string): Promise<Report> {
  const text = await readFile(file, "utf8").catch(() => undefined);
  if (text === undefined) return { passed: 0, failures: [{ file: "", title: "vitest wrote no report" }] };
  const report: unknown = JSON.parse(text);
  const failures = asArray(at(report, "testResults")).flatMap((result): readonly Failure[] => {
    const path = relative(root, asText(at(result, "name")) ?? "");
    const tests = asArray(at(result, "assertionResults"));
    if (tests.length === 0 && at(result, "status") === "failed") return [{ file: path, title: "could not be run" }];
    return tests
      .filter((test) => at(test, "status") === "failed")
      .map((test) => ({ file: path, title: asText(at(test, "fullName")) ?? "" }));
  });
  return { passed: asNumber(at(report, "numPassedTests")) ?? 0, failures };
}
