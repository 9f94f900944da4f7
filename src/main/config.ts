import { readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { isHostGlob } from "../domain/formats/host-glob.ts";
import { durationMs } from "../lib/duration.ts";
import type { LogLevel } from "../observe/logger.ts";
import { isTrue, readFlags, type GivenFlags } from "./flag-syntax.ts";
import { controllerFlags } from "./flags.ts";
import { renderHelp } from "./help.ts";
import { ownAddresses } from "./own-addresses.ts";

/** Where a listener binds; an undefined host is every interface. */
export interface BindAddress {
  readonly host: string | undefined;
  readonly port: number;
}

/** Below, a rotation does not end before the next one is due. */
const shortestValidityMs = 600_000;

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
  readonly objectLevelKms: boolean;
  readonly requireVerifiedMigrationSources: boolean;
  readonly requirePinnedMigrationSources: boolean;
  /** Undefined: no links. */
  readonly runbookBaseUrl: string | undefined;
  /** Undefined: no traces. */
  readonly tracing: TracingConfig | undefined;
  /** Where Events are also posted to. */
  readonly eventsUrl: string | undefined;
  readonly logLevel: LogLevel;
  readonly logFormat: "json" | "text";
  readonly allowLoopback: boolean;
  /** Of this pod; nobody has the controller ask itself (spec 50 §5). */
  readonly ownAddresses: readonly string[];
  /** Globs; empty: any host. */
  readonly allowedActionHosts: readonly string[];
  /** Whose federation cloud identities use that name none. */
  readonly defaultKubeConfigServiceAccount: string | undefined;
  /** Globs; empty: any host. */
  readonly allowedKubeConfigHosts: readonly string[];
  /** A kubeconfig may leave its API server unverified. */
  readonly insecureKubeConfigTls: boolean;
  readonly imageVerification: ImageVerificationConfig;
  /** Undefined: not served. */
  readonly webhook: WebhookConfig | undefined;
  /** Undefined: not served. */
  readonly ui: UiConfig | undefined;
  /** Read by client setup: KUBECONFIG, HOME, proxies. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** The read-only web UI. */
export interface UiConfig extends BindAddress {
  readonly auth: "none" | "kubernetes";
}

/** How the signatures of images are verified (spec 50 §4). */
export interface ImageVerificationConfig {
  /** Images that no policy matches are refused. */
  readonly requireMatch: boolean;
  /** Path; undefined: the root of the public instance, fetched on the first need. */
  readonly trustedRoot: string | undefined;
  /** `host[:port]`, in lower case. */
  readonly insecureRegistries: readonly string[];
  readonly breakGlass: "authorized" | "any" | "off";
}

/** The admission server and its certificate. */
export interface WebhookConfig extends BindAddress {
  readonly breakGlass: "authorized" | "any" | "off";
  readonly certificate: CertificateConfig;
}

export type CertificateConfig =
  | { readonly mode: "cert-manager"; readonly dir: string }
  | {
      readonly mode: "self-signed";
      readonly serviceName: string;
      /** Undefined: the pod's. */
      readonly serviceNamespace: string | undefined;
      readonly secretName: string;
      readonly configurationName: string;
      readonly validityMs: number;
    };

/** Where spans go, and how many (spec 60 §9). */
export interface TracingConfig {
  /** `host:port`. */
  readonly endpoint: string;
  readonly transport: "tls" | "plaintext";
  /** 0 to 1. */
  readonly sampleRatio: number;
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
  if (flags.request === "help") return { kind: "show", text: renderHelp() };
  if (flags.request === "version") return { kind: "show", text: `stageset-controller ${version}\n` };
  const problems = [...flags.problems];
  const textOf = (name: string): string => flags.values.get(name)?.at(-1) ?? "";
  const address = (name: string, off: readonly string[]): BindAddress | undefined => {
    const text = textOf(name);
    if (off.includes(text)) return undefined;
    const parsed = parseAddress(text);
    if (parsed === undefined)
      problems.push(`--${name}: ${JSON.stringify(text)} is no address: give [host]:port with a port from 1 to 65535`);
    return parsed;
  };
  // For this listener alone empty means the default (spec 60 §2.2).
  const metrics =
    textOf("metrics-bind-address") === "" ? { host: undefined, port: 8080 } : address("metrics-bind-address", ["0"]);
  const health = address("health-probe-bind-address", ["0", ""]);
  const gate = address("gate-bind-address", [""]);
  const webhook = isTrue(textOf("enable-webhook"))
    ? { host: undefined, port: Number(textOf("webhook-port")) }
    : undefined;
  // Looked at only when it is served (spec 60 §2.3).
  const ui = isTrue(textOf("enable-ui")) ? address("ui-bind-address", []) : undefined;
  const listeners = {
    "metrics-bind-address": metrics,
    "health-probe-bind-address": health,
    "gate-bind-address": gate,
    "webhook-port": webhook,
    "ui-bind-address": ui,
  };
  problems.push(
    ...combinationProblems(flags, listeners, env),
    ...targetProblems(textOf),
    ...globProblems(flags),
    ...imageProblems(flags),
  );
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
      objectLevelKms: isTrue(textOf("object-level-kms")),
      requireVerifiedMigrationSources: isTrue(textOf("require-verified-migration-sources")),
      requirePinnedMigrationSources: isTrue(textOf("require-pinned-migration-sources")),
      runbookBaseUrl: optional("runbook-base-url"),
      tracing:
        optional("tracing-endpoint") === undefined
          ? undefined
          : {
              endpoint: textOf("tracing-endpoint"),
              transport: isTrue(textOf("tracing-insecure")) ? "plaintext" : "tls",
              sampleRatio: Number(textOf("tracing-sample-ratio")),
            },
      eventsUrl: optional("events-addr"),
      logLevel: logLevel(textOf("log-level")),
      logFormat: textOf("log-format") === "text" ? "text" : "json",
      allowLoopback: isTrue(textOf("dev-allow-loopback")),
      ownAddresses: ownAddresses(env, networkInterfaces()),
      allowedActionHosts: flags.values.get("allowed-action-hosts") ?? [],
      defaultKubeConfigServiceAccount: optional("default-kubeconfig-service-account"),
      allowedKubeConfigHosts: flags.values.get("allowed-kubeconfig-hosts") ?? [],
      insecureKubeConfigTls: isTrue(textOf("insecure-kubeconfig-tls")),
      imageVerification: {
        requireMatch: isTrue(textOf("require-image-verification")),
        trustedRoot: optional("image-verification-trusted-root"),
        insecureRegistries: (flags.values.get("image-verification-insecure-registry") ?? []).map((host) =>
          host.toLowerCase(),
        ),
        breakGlass: breakGlassOf(textOf),
      },
      webhook: webhook === undefined ? undefined : { ...webhook, ...webhookConfig(textOf) },
      ui: ui === undefined ? undefined : { ...ui, auth: textOf("ui-auth") === "none" ? "none" : "kubernetes" },
      env,
    },
  };
}

function breakGlassOf(textOf: (name: string) => string): ImageVerificationConfig["breakGlass"] {
  const mode = textOf("image-verification-break-glass");
  return mode === "any" || mode === "off" ? mode : "authorized";
}

function webhookConfig(textOf: (name: string) => string): Omit<WebhookConfig, keyof BindAddress> {
  const breakGlass = breakGlassOf(textOf);
  if (textOf("webhook-cert-mode") !== "self-signed")
    return { breakGlass, certificate: { mode: "cert-manager", dir: textOf("webhook-cert-dir") } };
  const serviceName = textOf("webhook-service-name");
  return {
    breakGlass,
    certificate: {
      mode: "self-signed",
      serviceName,
      serviceNamespace: textOf("webhook-service-namespace") || undefined,
      secretName: textOf("webhook-cert-secret") || `${serviceName}-tls`,
      configurationName: textOf("webhook-validating-config-name"),
      validityMs: durationMs(textOf("webhook-cert-validity")) ?? 31_536_000_000,
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
    else problems.push(`--${name}: port ${address.port} is taken by --${other}: give each a port of its own`);
  }
  const selfSigned = flags.values.get("webhook-cert-mode")?.at(-1) === "self-signed";
  const webhook = isTrue(flags.values.get("enable-webhook")?.at(-1));
  if (webhook && selfSigned && (flags.values.get("webhook-validating-config-name") ?? []).length === 0)
    problems.push(
      '--webhook-cert-mode: "self-signed" maintains a caBundle: name its configuration with --webhook-validating-config-name',
    );
  const validity = flags.values.get("webhook-cert-validity")?.at(-1) ?? "";
  if ((durationMs(validity) ?? Infinity) < shortestValidityMs)
    problems.push(
      `--webhook-cert-validity: ${JSON.stringify(validity)} is too short to be renewed in time: give at least 10m`,
    );
  const inPod = (env["KUBERNETES_SERVICE_HOST"] ?? "") !== "";
  if (isTrue(flags.values.get("dev-allow-loopback")?.at(-1)) && inPod)
    problems.push(
      '--dev-allow-loopback: "true" is refused in a pod, where KUBERNETES_SERVICE_HOST is set: leave it out',
    );
  return problems;
}

/** A glob that matches nothing would refuse what it was meant to allow (spec 50 §5). */
function globProblems({ values }: GivenFlags): readonly string[] {
  return ["allowed-action-hosts", "allowed-kubeconfig-hosts"].flatMap((name) =>
    (values.get(name) ?? [])
      .filter((glob) => !isHostGlob(glob))
      .map((glob) => `--${name}: ${JSON.stringify(glob)} is no glob: close its bracket, or leave it out`),
  );
}

/** The path of a trusted root must be readable (spec 60 §2.2), and a registry be a host. */
function imageProblems({ values }: GivenFlags): readonly string[] {
  const problems = (values.get("image-verification-insecure-registry") ?? [])
    .filter((host) => !/^(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?$/.test(host))
    .map(
      (host) =>
        `--image-verification-insecure-registry: ${JSON.stringify(host)} is no registry: give host or host:port`,
    );
  const path = values.get("image-verification-trusted-root")?.at(-1) ?? "";
  const why = path === "" ? undefined : trustedRootProblem(path);
  if (why !== undefined)
    problems.push(
      `--image-verification-trusted-root: ${JSON.stringify(path)} ${why}: give the path of a Sigstore trusted root`,
    );
  return problems;
}

function trustedRootProblem(path: string): string | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return "cannot be read";
  }
  try {
    JSON.parse(text);
    return undefined;
  } catch {
    return "is not JSON";
  }
}

/** Where traces and Events are sent. */
function targetProblems(textOf: (name: string) => string): readonly string[] {
  const problems: string[] = [];
  const collector = textOf("tracing-endpoint");
  if (collector !== "" && parseAddress(collector)?.host === undefined)
    problems.push(`--tracing-endpoint: ${JSON.stringify(collector)} is no address: give host:port without a scheme`);
  const url = textOf("events-addr");
  if (url !== "" && !/^https?:$/.test(URL.parse(url)?.protocol ?? ""))
    problems.push(
      `--events-addr: ${JSON.stringify(withoutSecrets(url))} is no URL: give one that starts with http:// or https://`,
    );
  return problems;
}

/** A URL may carry a password or a token (spec 50 §11). */
function withoutSecrets(url: string): string {
  return url.replace(/\/\/[^/@]*@/, "//…@").replace(/[?#].*$/s, "?…");
}
