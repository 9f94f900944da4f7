import { type Command, InvalidArgumentError, Option } from "commander";
import { durationMs, formatDuration } from "../lib/duration.ts";

/** Which cluster a command talks to, and as whom (spec 70 §2). */
export function withHubFlags(command: Command): Command {
  return command
    .option("--kubeconfig <path>", "kubeconfig file; default KUBECONFIG, ~/.kube/config, in-cluster")
    .option("--context <name>", "context of the kubeconfig")
    .option("--cluster <name>", "cluster of the kubeconfig")
    .option("--user <name>", "user of the kubeconfig")
    .option("-n, --namespace <name>", "namespace of the StageSet; default the context's", readWord);
}

export function readTimeout(text: string): number {
  const ms = durationMs(text);
  if (ms === undefined || ms < 0) throw new InvalidArgumentError('want a duration such as "90s" or "5m", or 0');
  return ms;
}

export function outputOption(): Option {
  return new Option("-o, --output <format>", "text or json").choices(["text", "json"]).default("text");
}

export function timeoutOption(what: string, defaultMs: number): Option {
  return new Option("--timeout <duration>", `${what}; 0 = without limit`)
    .argParser(readTimeout)
    .default(defaultMs, formatDuration(defaultMs));
}

/** The name of an object, or `stageset/NAME`. */
export function readName(text: string): string {
  const name = text.replace(/^stagesets?\//, "");
  if (!/^[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?$/.test(name)) throw new InvalidArgumentError("want the name of a StageSet");
  return name;
}

/** Empty is what a script passes whose variable is not set: never what was meant. */
export function readWord(text: string): string {
  if (text.trim() === "") throw new InvalidArgumentError("want a value that is not empty");
  return text;
}

export function readUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || (url.protocol !== "http:" && url.protocol !== "https:"))
    throw new InvalidArgumentError("want an http or https URL");
  if (url.username !== "" || url.password !== "") throw new InvalidArgumentError("want a URL without credentials");
  if (url.search !== "" || url.hash !== "" || /\/gate(\/|$)/.test(url.pathname))
    throw new InvalidArgumentError('want the address of the gate alone, without "/gate/…" or a query');
  return text;
}
