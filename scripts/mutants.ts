/**
 * Replays test/mutants/*.patch, one after the other, in a copy of the repository: each breaks one safety property, and the
 * test it names must fail. Lines before the diff: `Breaks: <what>` and `Fails: <test file> > <part of the test's title>`.
 * A patch that no longer applies, or that survives, fails the command. Arguments select patches by a part of their name.
 */
import { spawn } from "node:child_process";
import { cp, mkdtemp, readdir, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { asArray, asText, at } from "../src/lib/json.ts";

const root = fileURLToPath(new URL("../", import.meta.url));
const patches = join(root, "test", "mutants");
/** What a copy needs; `node_modules` is linked. */
const copied = [
  ...["bin", "src", "test", "tools", "scripts", "config", "charts", "deploy", "web"],
  ...["package.json", "tsconfig.json", "vitest.config.ts"],
];

interface Mutant {
  readonly name: string;
  readonly breaks: string;
  readonly file: string;
  readonly title: string;
}

process.exitCode = await main(process.argv.slice(2));

async function main(wanted: readonly string[]): Promise<number> {
  const names = (await readdir(patches)).filter((name) => name.endsWith(".patch")).sort();
  const chosen = names.filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)));
  let failed = 0;
  for (const name of chosen) {
    const mutant = await readMutant(name);
    const outcome = await replay(mutant);
    if (outcome !== "killed") failed++;
    process.stdout.write(`${outcome === "killed" ? "ok  " : "FAIL"} ${name}: ${mutant.breaks}: ${outcome}\n`);
  }
  process.stdout.write(`\n${chosen.length - failed} killed, ${failed} not\n`);
  return failed === 0 && chosen.length > 0 ? 0 : 1;
}

async function readMutant(name: string): Promise<Mutant> {
  const text = await readFile(join(patches, name), "utf8");
  const breaks = /^Breaks: (.+)$/m.exec(text)?.[1];
  const [, file, title] = /^Fails: (\S+) > (.+)$/m.exec(text) ?? [];
  if (breaks === undefined || file === undefined || title === undefined)
    throw new Error(`${name}: the lines "Breaks: …" and "Fails: <file> > <title>" are missing`);
  return { name, breaks, file, title };
}

/** `killed`, or why not. */
async function replay(mutant: Mutant): Promise<string> {
  const copy = await mkdtemp(join(tmpdir(), "stageset-mutant-"));
  try {
    for (const entry of copied) await cp(join(root, entry), join(copy, entry), { recursive: true });
    await symlink(join(root, "node_modules"), join(copy, "node_modules"));
    const applied = await run("git", ["apply", "--whitespace=nowarn", join(patches, mutant.name)], copy);
    if (applied.code !== 0) return `the patch does not apply: ${applied.output.trim()}`;
    const report = join(copy, "report.json");
    const pattern = mutant.title.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    const args = ["run", mutant.file, "-t", pattern, "--reporter=json", `--outputFile=${report}`];
    const { output } = await run(process.execPath, [join(root, "node_modules", "vitest", "vitest.mjs"), ...args], copy);
    const results: unknown = JSON.parse(await readFile(report, "utf8").catch(() => "{}"));
    const statuses = asArray(at(results, "testResults"))
      .flatMap((file) => asArray(at(file, "assertionResults")))
      .map((test) => asText(at(test, "status")) ?? "");
    if (statuses.includes("failed")) return "killed";
    if (!statuses.includes("passed")) return `no test ran: ${output.trim().split("\n").slice(-3).join(" ")}`;
    return "survived";
  } finally {
    await rm(copy, { recursive: true, force: true, maxRetries: 5 });
  }
}

function run(
  command: string,
  args: readonly string[],
  cwd: string,
): Promise<{ readonly code: number; readonly output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (chunk: Buffer) => (output = (output + chunk.toString()).slice(-20_000)));
    child.once("error", reject);
    child.once("close", (code) => resolve({ code: code ?? 1, output }));
  });
}
