import { type Command, InvalidArgumentError, Option } from "commander";
import { UsageError, type CommandIo } from "../cli/command-io.ts";
import { runGet, type GetFlags } from "../cli/get.ts";
import { runWhy, type WhyFlags } from "../cli/why.ts";
import { outputOption, readName, readWord, withHubFlags } from "./command-line.ts";

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
      .option("--show-managed-fields", "keep metadata.managedFields", false)
      .addOption(
        new Option("-o, --output <format>", "wide, yaml, json or name")
          .choices(["wide", "yaml", "json", "name"])
          .default("", "a table"),
      ),
  ).action(async (name: string | undefined, options: GetFlags) => {
    if (name !== undefined && options.allNamespaces)
      throw new UsageError("a name goes with one namespace: leave out --all-namespaces");
    if (name !== undefined && options.selector !== undefined)
      throw new UsageError("give a name or a selector, not both");
    done(await runGet(name, options, io));
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
