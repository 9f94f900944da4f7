import { durationMs } from "../lib/duration.ts";
import type { LogLevel } from "../observe/logger.ts";
import { environmentName, isTrue, readFlags, type GivenFlags } from "./flag-syntax.ts";
import { controllerFlags } from "./flags.ts";

/** Where a listener binds; an undefined host is every interface. */
export interface BindAddress {
  readonly host: string | undefined;
  readonly port: number;
}

/** Everything the controller is told by flags and environment; read once. */
export interface Config {
  readonly kubeconfig: string | undefined;
  /** Undefined: not served. */
  readonly metrics: BindAddress | undefined;
  readonly health: BindAddress | undefined;
  readonly gate: BindAddress | undefined;
  readonly leaderElect: boolean;
  readonly leaderElectionNamespace: string | undefined;
  /** Undefined: all. */
  readonly namespaces: readonly string[] | undefined;
  readonly concurrency: number;
  readonly shardCap: number;
  readonly defaultIntervalMs: number;
  /** 0: no bound. */
  readonly maxTeardownWaitMs: number;
  readonly crossNamespace: "allowed" | "refused";
  readonly defaultServiceAccount: string | undefined;
  readonly requireServiceAccount: boolean;
  /** A template with `{id}`. */
  readonly runbookBaseUrl: string | undefined;
  readonly logLevel: LogLevel;
  readonly logFormat: "json" | "text";
  readonly allowLoopback: boolean;
  readonly webhook: "requested" | "off";
  /** Read by client setup: KUBECONFIG, HOME, proxies. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

export type ReadConfig =
  | { readonly kind: "config"; readonly config: Config }
  | { readonly kind: "show"; readonly text: string }
  /** One line per problem; the process exits with 2. */
  | { readonly kind: "invalid"; readonly problems: readonly string[] };

/** Reads flags and environment; contacts nothing (spec 60 §2). */
export function readConfig(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  version: string,
): ReadConfig {
  const flags = readFlags(controllerFlags, args, env);
  if (flags.request === "help") return { kind: "show", text: helpText() };
  if (flags.request === "version") return { kind: "show", text: `stageset-controller ${version}\n` };
  const problems = [...flags.problems];
  const textOf = (name: string): string => flags.values.get(name)?.at(-1) ?? "";
  const address = (name: string, off: readonly string[]): BindAddress | undefined => {
    const text = textOf(name);
    if (off.includes(text)) return undefined;
    const parsed = parseAddress(text);
    if (parsed === undefined)
      problems.push(`--${name}: ${JSON.stringify(text)} is no [host]:port with a port from 1 to 65535`);
    return parsed;
  };
  // For this listener alone empty means the default (spec 60 §2.2).
  const metrics =
    textOf("metrics-bind-address") === "" ? { host: undefined, port: 8080 } : address("metrics-bind-address", ["0"]);
  const health = address("health-probe-bind-address", ["0", ""]);
  const gate = address("gate-bind-address", [""]);
  problems.push(...combinationProblems(flags, { metrics, health, gate }, env));
  if (problems.length > 0) return { kind: "invalid", problems };
  const optional = (name: string): string | undefined => textOf(name) || undefined;
  const namespaces = textOf("watch-namespaces")
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
  return {
    kind: "config",
    config: {
      kubeconfig: optional("kubeconfig"),
      metrics,
      health,
      gate,
      leaderElect: isTrue(textOf("leader-elect")),
      leaderElectionNamespace: optional("leader-election-namespace"),
      namespaces: namespaces.length === 0 ? undefined : [...new Set(namespaces)],
      concurrency: Number(textOf("max-concurrent-reconciles")),
      shardCap: Number(textOf("inventory-shard-cap")),
      defaultIntervalMs: durationMs(textOf("default-interval")) ?? 600_000,
      maxTeardownWaitMs: durationMs(textOf("max-teardown-wait")) ?? 3_600_000,
      crossNamespace: isTrue(textOf("no-cross-namespace-refs")) ? "refused" : "allowed",
      defaultServiceAccount: optional("default-service-account"),
      requireServiceAccount: isTrue(textOf("require-service-account")),
      runbookBaseUrl: optional("runbook-base-url"),
      logLevel: logLevel(textOf("log-level")),
      logFormat: textOf("log-format") === "text" ? "text" : "json",
      allowLoopback: isTrue(textOf("dev-allow-loopback")),
      webhook: isTrue(textOf("enable-webhook")) ? "requested" : "off",
      env,
    },
  };
}

function logLevel(text: string): LogLevel {
  return text === "debug" || text === "warn" || text === "error" ? text : "info";
}

/** `[host]:port`; the host may be an IPv6 address in brackets. */
export function parseAddress(text: string): BindAddress | undefined {
  const match = /^(?:\[([0-9A-Fa-f:.%]+)\]|([^:[\]\s]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3] ?? "0");
  if (match === null || port < 1 || port > 65_535) return undefined;
  return { host: (match[1] ?? match[2]) || undefined, port };
}

function combinationProblems(
  flags: GivenFlags,
  listeners: Readonly<Record<string, BindAddress | undefined>>,
  env: Readonly<Record<string, string | undefined>>,
): readonly string[] {
  const problems: string[] = [];
  const taken = new Map<number, string>();
  for (const [name, address] of Object.entries(listeners)) {
    if (address === undefined) continue;
    const other = taken.get(address.port);
    if (other === undefined) taken.set(address.port, name);
    else problems.push(`the ${other} and the ${name} listener both bind port ${address.port}: give each its own`);
  }
  const selfSigned = flags.values.get("webhook-cert-mode")?.at(-1) === "self-signed";
  const webhook = isTrue(flags.values.get("enable-webhook")?.at(-1));
  if (webhook && selfSigned && (flags.values.get("webhook-validating-config-name") ?? []).length === 0)
    problems.push('--webhook-cert-mode: "self-signed" requires --webhook-validating-config-name');
  const inPod = (env["KUBERNETES_SERVICE_HOST"] ?? "") !== "";
  if (isTrue(flags.values.get("dev-allow-loopback")?.at(-1)) && inPod)
    problems.push("--dev-allow-loopback: true is refused in a pod (KUBERNETES_SERVICE_HOST is set)");
  return problems;
}

function helpText(): string {
  const lines = controllerFlags.map(({ name, default: value, help, accepts }) => {
    const note = accepts === undefined ? "" : "; not part of this build";
    return `  --${name}${value === "" ? "" : ` (default ${value})`}\n      ${help}${note}`;
  });
  return [
    "stageset-controller ships releases to a cluster as ordered lists of stages.",
    "",
    "Usage: stageset-controller [flags]",
    "",
    `Each flag also reads an environment variable, e.g. ${environmentName("watch-namespaces")}; the flag wins.`,
    "",
    ...lines,
    "  --version",
    "  --help, -h",
    "",
  ].join("\n");
}
