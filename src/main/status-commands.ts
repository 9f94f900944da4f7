import { type Command, InvalidArgumentError, Option } from "commander";
import { UsageError, type CommandIo } from "../cli/command-io.ts";
import { runFollow } from "../cli/follow.ts";
import { runGet, type GetFlags } from "../cli/get.ts";
import { runWhy, type WhyFlags } from "../cli/why.ts";
import type { UiFlags } from "./ui-command.ts";
import { outputOption, readName, readWord, timeoutOption, withHubFlags } from "./command-line.ts";

interface WatchFlags {
  readonly watch: boolean;
  readonly until?: string;
  readonly timeout: number;
  readonly objects: "unready" | "none";
}

/** `get` and `why`: what StageSets do, and what keeps them from it. */
export function addStatusCommands(
  program: Command,
  { io, done }: { readonly io: CommandIo; readonly done: (code: number) => void },
): void {
  withHubFlags(
    program
      .command("get")
      .description("Show StageSets, or one with its stages")
      .argument("[name]", "StageSet; default all of the namespace", readName)
      .option("-A, --all-namespaces", "of all namespaces", false)
      .option("-l, --selector <selector>", "only those with these labels, such as team=shop", readSelector)
      .option("-w, --watch", "go on, and tell what changes", false)
      .option("--until <what>", "with --watch and a name: end when it is ready, or this stage is", readWord)
      .addOption(timeoutOption("with --watch: how long", 0))
      .addOption(
        new Option("--objects <which>", "with --watch on a terminal: objects that are not ready, or none")
          .choices(["unready", "none"])
          .default("unready"),
      )
      .option("--show-managed-fields", "keep metadata.managedFields", false)
      .addOption(
        new Option("-o, --output <format>", "wide, yaml, json or name")
          .choices(["wide", "yaml", "json", "name"])
          .default("", "a table"),
      ),
  ).action(async (name: string | undefined, options: GetFlags & WatchFlags) => {
    const { watch, until, timeout, output } = options;
    if (name !== undefined && options.allNamespaces)
      throw new UsageError("a name goes with one namespace: leave out --all-namespaces");
    if (name !== undefined && options.selector !== undefined)
      throw new UsageError("give a name or a selector, not both");
    if (!watch && until !== undefined) throw new UsageError("--until goes with --watch");
    if (!watch) {
      done(await runGet(name, options, io));
      return;
    }
    if (until !== undefined && name === undefined) throw new UsageError("--until goes with the name of a StageSet");
    if (output !== "" && output !== "json")
      throw new UsageError(`--watch has no output "${output}": give json, or none`);
    done(await runFollow(name, { ...options, output, timeoutMs: timeout }, io));
  });
  withHubFlags(
    program
      .command("why")
      .description(
        "Tell why a StageSet does not move, since when, until when, and what ends it: exit 0 if nothing keeps it, else 1",
      )
      .argument("<name>", "StageSet", readName)
      .option("--stage <stage>", "only what concerns this stage", readWord)
      .addOption(outputOption()),
  ).action(async (name: string, options: WhyFlags) => {
    done(await runWhy(name, options, io));
  });
  withHubFlags(
    program
      .command("ui")
      .description("Serve the web UI on loopback, with what you may read: all namespaces, or that of --namespace")
      .option("--port <port>", "port; default any that is free", readPort, 0),
  ).action(async (options: UiFlags) => {
    // Loaded for this command alone: the others start sooner without a server.
    const { runUi } = await import("./ui-command.ts");
    done(await runUi(options, io));
  });
}

function readPort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  if (!(port >= 0 && port <= 65_535)) throw new InvalidArgumentError("want a port from 1 to 65535");
  return port;
}

const key = "(?:[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?";
const value = "(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?";
const requirement = `\\s*(?:!?\\s*${key}|${key}\\s*(?:=|==|!=)\\s*${value}|${key}\\s+(?:in|notin)\\s*\\(\\s*${value}(?:\\s*,\\s*${value})*\\s*\\))\\s*`;
const selector = new RegExp(`^${requirement}(?:,${requirement})*$`);

/** As the API server reads label selectors; a wrong one is found before it is asked. */
function readSelector(text: string): string {
  if (!selector.test(text)) throw new InvalidArgumentError('want a label selector such as "team=shop,tier in (a, b)"');
  return text;
}
