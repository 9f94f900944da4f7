import { lstat, readdir, readFile, realpath, stat } from "node:fs/promises";
import { basename, join, relative, sep } from "node:path";
import { parseStageSet } from "../api/stage-set.ts";
import { mostLadderBytes, readLadderFile, tooLarge } from "../build/ladder-file.ts";
import { parseYaml, YamlProblem } from "../build/yaml-parse.ts";
import type { CelCheck } from "../engine/facts/cel.ts";
import { asText, at } from "../lib/json.ts";
import { expressionsOfActions } from "../domain/validation/expressions.ts";
import { actionsOfGroups, migrationGroups } from "../domain/validation/places.ts";
import { lintLadder, type LintOptions, type LintReport, transitionOf } from "../domain/versions/lint-ladder.ts";
import {
  isLadderFile,
  type LadderFile,
  readMigrations,
  type ReadMigrations,
} from "../domain/versions/read-migrations.ts";
import { CommandFailed, exitCodes, UsageError, type CommandIo } from "./command-io.ts";

export interface LintFlags {
  readonly from?: string;
  readonly to?: string;
  /** A file with the StageSet the ladder is for. */
  readonly stageset?: string;
  readonly output: "text" | "json";
}

/** Compiles expressions as the controller does. */
export interface LintTools {
  check(expression: string, o: { readonly signal: AbortSignal }): Promise<CelCheck>;
}

const mostFiles = 10_000;

/**
 * `stagesetctl lint-migrations`: judges a ladder offline, and says what a transition would run. Exit code 1 when it is
 * invalid.
 *
 * @throws {UsageError} one of the two versions is missing or none
 * @throws {CommandFailed} a path cannot be read, or holds no StageSet
 */
export async function runLintMigrations(
  path: string,
  flags: LintFlags,
  { io, tools }: { readonly io: CommandIo; readonly tools: LintTools },
): Promise<number> {
  const transition = readTransition(flags);
  const stageSet = flags.stageset === undefined ? undefined : await readStageSet(flags.stageset, io);
  const read = readMigrations(await readLadder(path, io));
  const expressionProblem = await checkExpressions(read, io, tools);
  const report = lintLadder(read, { expressionProblem, transition, stageSet });
  for (const { path: where, message } of report.warnings) io.error(`warning: ${line(where, message)}\n`);
  io.out(flags.output === "json" ? `${JSON.stringify(report, undefined, 2)}\n` : renderReport(report));
  return report.valid ? exitCodes.done : exitCodes.finding;
}

function readTransition({ from, to }: LintFlags): LintOptions["transition"] {
  if (from === undefined && to === undefined) return undefined;
  if (from === undefined || to === undefined)
    throw new UsageError(`--${from === undefined ? "from" : "to"} is missing, want both --from and --to or neither`);
  const transition = transitionOf(from, to);
  if (transition === undefined)
    throw new UsageError(`--from ${JSON.stringify(from)} --to ${JSON.stringify(to)}: want versions such as "1.2.0"`);
  return transition;
}

async function readStageSet(path: string, io: CommandIo): Promise<LintOptions["stageSet"]> {
  const text = await read(path, () => readFile(path, { encoding: "utf8", signal: io.signal }));
  let documents: readonly unknown[];
  try {
    documents = parseYaml(text, "api");
  } catch (error) {
    if (!(error instanceof YamlProblem)) throw error;
    throw new CommandFailed(`Cannot read ${JSON.stringify(path)}: ${error.message}`);
  }
  const found = documents.filter((document) => asText(at(document, "kind")) === "StageSet");
  if (found.length !== 1)
    throw new CommandFailed(`Cannot use ${JSON.stringify(path)}: it holds ${found.length} StageSets, want one`);
  const parsed = parseStageSet(found[0]);
  const stageSet = parsed.kind === "valid" ? parsed.value : undefined;
  if (stageSet !== undefined) return { namespace: stageSet.metadata.namespace ?? "", spec: stageSet.spec };
  const violations = parsed.kind === "invalid" ? parsed.violations : [];
  const listed = violations.slice(0, 10).map(({ path: where, message }) => `${where} ${message}`);
  throw new CommandFailed(`Cannot use the StageSet of ${JSON.stringify(path)}: ${listed.join("; ")}`);
}

/** The files of a ladder, in byte order of their paths as in an artifact. */
async function readLadder(path: string, io: CommandIo): Promise<readonly LadderFile[]> {
  const info = await read(path, () => stat(path));
  if (!info.isDirectory())
    return [
      isLadderFile(basename(path))
        ? await readOne(path, { path, room: { bytes: mostLadderBytes } }, io)
        : { kind: "unreadable", path, problem: "is no .yaml, .yml or .json file, and so is not read" },
    ];
  const entries = await read(path, () => readdir(path, { recursive: true, withFileTypes: true }));
  const names = entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(path, join(entry.parentPath, entry.name)).split(sep).join("/"))
    .filter(isLadderFile);
  if (names.length > mostFiles)
    throw new CommandFailed(
      `Cannot read ${JSON.stringify(path)}: it holds ${names.length} files, want at most ${mostFiles}`,
    );
  const sorted = names.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const files: LadderFile[] = [];
  const room = { bytes: mostLadderBytes };
  for (const name of sorted) {
    const file = join(path, name);
    if (room.bytes < 0) break;
    if (await leavesRoot(file, path))
      files.push({ kind: "unreadable", path: name, problem: "is a link that leads out of the directory" });
    else files.push(await readOne(file, { path: name, room }, io));
  }
  return files;
}

async function leavesRoot(file: string, root: string): Promise<boolean> {
  const info = await read(file, () => lstat(file));
  if (!info.isSymbolicLink()) return false;
  const [target, base] = await read(file, () => Promise.all([realpath(file), realpath(root)]));
  return !target.startsWith(base + sep);
}

/** `room`: for what is left to read of the ladder; below zero after the file that did not fit. */
async function readOne(
  file: string,
  { path, room }: { readonly path: string; readonly room: { bytes: number } },
  io: CommandIo,
): Promise<LadderFile> {
  const info = await read(file, () => stat(file));
  if (!info.isFile()) return { kind: "unreadable", path, problem: "is no regular file" };
  room.bytes -= info.size;
  if (room.bytes < 0) return { kind: "unreadable", path, problem: tooLarge };
  return readLadderFile({ path, bytes: await read(file, () => readFile(file, { signal: io.signal })) });
}

async function read<T>(path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    const cause = error instanceof Error && "code" in error ? String(error.code) : String(error);
    throw new CommandFailed(`Cannot read ${JSON.stringify(path)}: ${cause}`, { cause: error });
  }
}

/** Compiled one after the other; one that gets no answer is warned about, not refused. */
async function checkExpressions(
  { migrations }: ReadMigrations,
  io: CommandIo,
  tools: LintTools,
): Promise<LintOptions["expressionProblem"]> {
  const problems = new Map<string, string>();
  const texts = new Set(
    [...expressionsOfActions(actionsOfGroups(migrationGroups(migrations)))].map(({ text }) => text),
  );
  for (const text of texts) {
    const check = await tools.check(text, { signal: io.signal });
    if (check.kind === "invalid") problems.set(text, check.message);
    if (check.kind === "unknown") io.error(`warning: an expression could not be checked: ${check.message}\n`);
  }
  return (text) => problems.get(text);
}

function line(path: string, message: string): string {
  return printable(path === "" ? message : `${path}: ${message}`);
}

function renderReport({ valid, migrations, problems, transition }: LintReport): string {
  if (!valid)
    return problems.map(({ path, message }) => `✗ ${line(path === "" ? "the ladder" : path, message)}\n`).join("");
  const rows = migrations.map(({ name, from, to, stage, actions }) => [
    name,
    `${from === undefined ? "" : `${from} `}→ ${to} before ${stage ?? "(first stage)"}`,
    verbs(actions),
  ]);
  const head = `✓ ${migrations.length} migration(s) valid\n${table(rows)}`;
  return transition === undefined ? head : `${head}\n${renderTransition(transition)}`;
}

function renderTransition({ from, to, migrations, refused }: NonNullable<LintReport["transition"]>): string {
  const words = { fires: "FIRES", unwinds: "UNWINDS", irreversible: "irreversible", excluded: "excluded" } as const;
  const rows = migrations.map(({ name, outcome, actions, reason }) => [
    name,
    words[outcome],
    reason ?? (outcome === "irreversible" ? "has no down steps" : verbs(actions)),
  ]);
  const verdict = refused === undefined ? "" : `${printable(`refused  ${refused.reason}: ${refused.message}`)}\n`;
  return `${printable(`transition ${from} → ${to}:`)}\n${table(rows)}${verdict}`;
}

function verbs(list: readonly string[]): string {
  return list.length === 0 ? "-" : list.join(", ");
}

/** Rows indented by two blanks, columns padded, the last one not. */
function table(rows: readonly (readonly string[])[]): string {
  const shown = rows.map((row) => row.map(printable));
  const widths = (shown[0] ?? []).map((_, column) => Math.max(...shown.map((row) => row[column]?.length ?? 0)));
  const cell = (row: readonly string[], column: number): string => {
    const text = row[column] ?? "";
    return column === row.length - 1 ? text : `${text.padEnd(widths[column] ?? 0)}  `;
  };
  return shown.map((row) => `  ${row.map((_, column) => cell(row, column)).join("")}\n`).join("");
}

/** Without control characters: files may come from anywhere. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, "");
}
