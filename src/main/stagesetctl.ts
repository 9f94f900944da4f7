import { basename } from "node:path";
import { Command, CommanderError, Option } from "commander";
import { CommandFailed, exitCodes, UsageError, type CommandIo } from "../cli/command-io.ts";
import { runCleanup, type CleanupFlags } from "../cli/cleanup.ts";
import { runGate, type GateFlags } from "../cli/gate.ts";
import { type LintFlags, runLintMigrations } from "../cli/lint-migrations.ts";
import { systemClock } from "../lib/clock.ts";
import { outputOption, readName, readUrl, readWord, timeoutOption, withHubFlags } from "./command-line.ts";
import { startExpressions } from "./expressions.ts";
import { addStatusCommands } from "./status-commands.ts";
import { version } from "./version.ts";
import { wasmModules } from "./wasm-modules.ts";

const abort = new AbortController();
for (const [name, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const)
  process.on(name, () => {
    abort.abort(new Error(`ended by ${name}`));
    process.exit(code);
  });

const io: CommandIo = {
  env: process.env,
  clock: systemClock,
  signal: abort.signal,
  // Some terminals do not say how wide they are.
  columns: process.stdout.isTTY ? process.stdout.columns || 80 : undefined,
  out: (text) => void process.stdout.write(text),
  error: (text) => void process.stderr.write(text),
};

process.exitCode = await main();

async function main(): Promise<number> {
  let code: number = exitCodes.done;
  const program = createProgram((done) => (code = done));
  try {
    if (process.argv.length < 3) program.outputHelp();
    else await program.parseAsync();
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.done : exitCodes.usage;
    if (error instanceof UsageError) {
      io.error(`Error: ${error.message}; see --help\n`);
      return exitCodes.usage;
    }
    if (!(error instanceof CommandFailed)) throw error;
    io.error(`Error: ${error.message}\n`);
    return exitCodes.failed;
  }
}

function createProgram(done: (code: number) => void): Command {
  const plugin = /^kubectl-stageset/i.test(basename(process.argv[1] ?? ""));
  const shownVersion = `${plugin ? "kubectl stageset" : "stagesetctl"} version ${version} (commit unknown)`;
  const program = new Command(plugin ? "kubectl stageset" : "stagesetctl")
    .description("Looks at StageSets and what they wait for")
    .version(shownVersion)
    .exitOverride()
    .configureOutput({ writeErr: (text) => io.error(text.replace(/^error: /, "Error: ")) })
    .showHelpAfterError("see --help");
  program
    .command("version")
    .description("Print the version")
    .action(() => io.out(`${shownVersion}\n`));
  addStatusCommands(program, { io, done });
  withHubFlags(
    program
      .command("gate")
      .description(
        "Tell whether a stage is Ready at its pinned revision: exit 0 if it is, 1 if not, 3 if it cannot be told",
      )
      .argument("<name>", "StageSet", readName)
      .requiredOption("--stage <stage>", "stage of the StageSet", readWord)
      .option("--revision <revision>", "open only at this revision", readWord)
      .option("--url <url>", "ask the gate at this address, such as http://127.0.0.1:8082, not the API server", readUrl)
      .option("--wait", "wait until the stage is Ready")
      .addOption(timeoutOption("how long to wait", 5 * 60_000))
      .addOption(outputOption()),
  ).action(
    async (name: string, options: Omit<GateFlags, "wait"> & { readonly wait?: boolean; readonly timeout: number }) => {
      done(await runGate(name, { ...options, wait: options.wait ?? false, timeoutMs: options.timeout }, io));
    },
  );
  withHubFlags(
    program
      .command("cleanup")
      .description("Take every StageSet in scope away, before the controller is uninstalled")
      .addOption(
        new Option("--policy <policy>", "Orphan: what they applied stays; Delete: it is deleted")
          .choices(["Orphan", "Delete"])
          .makeOptionMandatory(),
      )
      .option(
        "--in <namespace>",
        "namespace, repeatable; default all",
        (one: string, all: string[]) => [...all, one],
        [],
      )
      .addOption(timeoutOption("how long to wait until all are gone", 2 * 60_000)),
  ).action(async (options: CleanupFlags & { readonly in: readonly string[]; readonly timeout: number }) => {
    done(await runCleanup({ ...options, namespaces: options.in, timeoutMs: options.timeout }, io));
  });
  program
    .command("lint-migrations")
    .description(
      "Check migrations of an artifact offline, as the controller does, and tell what a transition would run",
    )
    .argument("<path>", "file or directory of migrations", readWord)
    .option("--from <version>", "deployed version of the transition", readWord)
    .option("--to <version>", "version the transition leads to", readWord)
    .option("--stageset <file>", "file with the StageSet: its stages and rules are checked too", readWord)
    .addOption(outputOption())
    .action(async (path: string, options: LintFlags) => {
      await using stack = new AsyncDisposableStack();
      const modules = wasmModules((line) => {
        io.error(`${line}\n`);
      });
      const tools = startExpressions(stack, { modules, clock: systemClock });
      done(await runLintMigrations(path, options, { io, tools }));
    });
  return program;
}
