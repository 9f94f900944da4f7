import { readFile } from "node:fs/promises";
import type { LookupFunction } from "node:net";
import { delimiter, join } from "node:path";
import { type Clock, systemClock } from "../lib/clock.ts";
import { asArray, asObject, asText, at } from "../lib/json.ts";
import {
  anonymous,
  basicCredential,
  certificateCredential,
  type Credential,
  impersonating,
  tokenCredential,
  tokenFileCredential,
} from "./credential.ts";
import { KubeConfigError, type KubeConfigSelection, mergeKubeConfigs, selectContext } from "./kubeconfig.ts";

/** Where one cluster's API server is and how it is known to be the right one. */
export interface ClusterEndpoint {
  /** Names the cluster in every cache, watch and inventory key: equal keys are the same cluster. */
  readonly key: string;
  /** An URL; a path in it is a prefix of every request's. */
  readonly server: string;
  /** Absent: the system's roots. */
  readonly caPem?: string;
  readonly tlsServerName?: string;
  readonly insecureSkipTlsVerify?: boolean;
  /** An HTTP or HTTPS proxy. */
  readonly proxyUrl?: string;
  /** Sockets are shared only among endpoints with the same; default: all that are alike otherwise. */
  readonly isolation?: string;
  /** Resolves host names, the proxy's included, for each connection; default: the machine's resolver. */
  readonly lookup?: LookupFunction;
  /** The largest answer that is read, and the largest line of a watch, bytes; default 512 MiB and 64 MiB. */
  readonly maxAnswerBytes?: number;
  /** Lists that ask for pages get none with more objects; default: what they ask for. */
  readonly maxPageItems?: number;
}

/** The key of the cluster the process belongs to, or that its kubeconfig names. */
export const localClusterKey = "local";

export interface LoadedCluster {
  readonly endpoint: ClusterEndpoint;
  readonly credential: Credential;
  /** The context's, or the pod's own. */
  readonly namespace?: string;
  readonly contextName?: string;
}

export interface LoadOptions {
  /** `--kubeconfig`: must exist. */
  readonly flag?: string | undefined;
  /** The environment: `KUBECONFIG`, `HOME`, `KUBERNETES_SERVICE_HOST`, `KUBERNETES_SERVICE_PORT`, `HTTPS_PROXY`, `NO_PROXY`. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** `cluster`: in-cluster before `~/.kube/config` (spec 60 §1), the default; `home`: after it (spec 70 §2.1). */
  readonly prefer?: "cluster" | "home" | undefined;
  readonly context?: string | undefined;
  readonly cluster?: string | undefined;
  readonly user?: string | undefined;
  /** Where a pod's token, CA and namespace are mounted. */
  readonly mount?: string | undefined;
  readonly clock?: Clock | undefined;
}

const defaultMount = "/var/run/secrets/kubernetes.io/serviceaccount";

/**
 * Finds the API server and a credential: `--kubeconfig`, `KUBECONFIG`, in-cluster, `~/.kube/config`. Contacts nothing,
 * and runs a credential plugin only when the user asks for one.
 *
 * @throws {KubeConfigError} `NotFound`, naming what was looked for; `Malformed`; `Incomplete`
 */
export async function loadKubeConfig(o: LoadOptions): Promise<LoadedCluster> {
  if (o.flag !== undefined)
    return fromFiles([o.flag], { ...o, missing: "refuse" }).then(found(`kubeconfig "${o.flag}"`));
  const listed = (o.env["KUBECONFIG"] ?? "").split(delimiter).filter((path) => path !== "");
  if (listed.length > 0)
    return fromFiles(listed, { ...o, missing: "skip" }).then(found(`KUBECONFIG "${o.env["KUBECONFIG"] ?? ""}"`));
  const home = o.env["HOME"];
  const homeFile = home === undefined || home === "" ? undefined : join(home, ".kube", "config");
  const fromHome = async () => (homeFile === undefined ? undefined : fromFiles([homeFile], { ...o, missing: "skip" }));
  const sources = o.prefer === "home" ? [fromHome, () => fromPod(o)] : [() => fromPod(o), fromHome];
  for (const source of sources) {
    const loaded = await source();
    if (loaded !== undefined) return loaded;
  }
  throw new KubeConfigError(
    "NotFound",
    `Cannot find a cluster: no --kubeconfig, no KUBECONFIG, not in a pod, no "${homeFile ?? "~/.kube/config"}"`,
  );
}

function found(what: string): (loaded: LoadedCluster | undefined) => LoadedCluster {
  return (loaded) => {
    if (loaded === undefined)
      throw new KubeConfigError("NotFound", `Cannot find a cluster: ${what} names no file that exists`);
    return loaded;
  };
}

async function fromFiles(
  paths: readonly string[],
  o: LoadOptions & { readonly missing: "refuse" | "skip" },
): Promise<LoadedCluster | undefined> {
  const files: { readonly path: string; readonly text: string }[] = [];
  for (const path of paths) {
    try {
      files.push({ path, text: await readFile(path, "utf8") });
    } catch (error) {
      if (o.missing === "skip" && at(error, "code") === "ENOENT") continue;
      throw new KubeConfigError("NotFound", `Cannot read kubeconfig "${path}"`, error);
    }
  }
  if (files.length === 0) return undefined;
  const config = mergeKubeConfigs(files);
  return loadSelection(selectContext(config, o), { ...o, files });
}

/** @throws {KubeConfigError} when a referenced file cannot be read */
async function loadSelection(
  selection: KubeConfigSelection,
  o: LoadOptions & { readonly files: readonly { readonly path: string }[] },
): Promise<LoadedCluster> {
  const { cluster, user, contextName, namespace } = selection;
  const server = asText(cluster["server"]) ?? "";
  const caPem = await pemOf(cluster, "certificate-authority");
  const tlsServerName = asText(cluster["tls-server-name"]);
  const proxyUrl = asText(cluster["proxy-url"]) ?? proxyFor(server, o.env);
  return {
    endpoint: {
      key: localClusterKey,
      server,
      ...(caPem === undefined ? {} : { caPem }),
      ...(tlsServerName === undefined ? {} : { tlsServerName }),
      ...(cluster["insecure-skip-tls-verify"] === true ? { insecureSkipTlsVerify: true } : {}),
      ...(proxyUrl === undefined ? {} : { proxyUrl }),
    },
    credential: withImpersonation(await credentialOf(selection, o), user),
    ...(namespace === undefined ? {} : { namespace }),
    ...(contextName === undefined ? {} : { contextName }),
  };
}

async function credentialOf(selection: KubeConfigSelection, o: LoadOptions): Promise<Credential> {
  const { user } = selection;
  if (user["exec"] !== undefined || user["auth-provider"] !== undefined) {
    // Loaded for these users alone: importing it takes longer than all the rest of a start.
    const { pluginCredential } = await import("./plugin-credential.ts");
    return pluginCredential(selection);
  }
  const certPem = await pemOf(user, "client-certificate");
  const keyPem = await pemOf(user, "client-key");
  const bearer = bearerOf(user, o.clock ?? systemClock);
  if (certPem === undefined || keyPem === undefined) return bearer ?? anonymous;
  const certificate = certificateCredential({ certPem, keyPem });
  return bearer === undefined ? certificate : { ...bearer, certificate: { certPem, keyPem } };
}

function bearerOf(user: Readonly<Record<string, unknown>>, clock: Clock): Credential | undefined {
  const token = asText(user["token"]);
  const tokenFile = asText(user["tokenFile"]);
  const username = asText(user["username"]);
  if (tokenFile !== undefined)
    return tokenFileCredential(
      () => readFile(tokenFile, "utf8"),
      () => clock.monotonic(),
    );
  if (token !== undefined) return tokenCredential(token);
  if (username !== undefined) return basicCredential(username, asText(user["password"]) ?? "");
  return undefined;
}

function withImpersonation(credential: Credential, user: Readonly<Record<string, unknown>>): Credential {
  const as = asText(user["as"]);
  if (as === undefined) return credential;
  const uid = asText(user["as-uid"]);
  const strings = (value: unknown): readonly string[] => asArray(value).filter((item) => typeof item === "string");
  const extra = Object.entries(asObject(user["as-user-extra"]) ?? {}).map(
    ([key, values]) => [key, strings(values)] as const,
  );
  return impersonating(credential, {
    user: as,
    ...(uid === undefined ? {} : { uid }),
    groups: strings(user["as-groups"]),
    extra: Object.fromEntries(extra),
  });
}

/** `<field>-data` (base64) before the file `<field>` names. */
async function pemOf(entry: Readonly<Record<string, unknown>>, field: string): Promise<string | undefined> {
  const inline = asText(entry[`${field}-data`]);
  if (inline !== undefined) return Buffer.from(inline, "base64").toString("utf8");
  const path = asText(entry[field]);
  if (path === undefined) return undefined;
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new KubeConfigError("NotFound", `Cannot read "${path}" named by ${field} of the kubeconfig`, error);
  }
}

/** The pod's own ServiceAccount; undefined outside a pod. */
async function fromPod(o: LoadOptions): Promise<LoadedCluster | undefined> {
  const host = o.env["KUBERNETES_SERVICE_HOST"];
  const port = o.env["KUBERNETES_SERVICE_PORT"];
  if (host === undefined || host === "" || port === undefined || port === "") return undefined;
  const mount = o.mount ?? defaultMount;
  const clock = o.clock ?? systemClock;
  const tokenFile = join(mount, "token");
  const [caPem, namespace] = await Promise.all([
    readFile(join(mount, "ca.crt"), "utf8").catch(() => undefined),
    readFile(join(mount, "namespace"), "utf8").catch(() => undefined),
    readFile(tokenFile).catch((error: unknown) => {
      throw new KubeConfigError("NotFound", `Cannot read the pod's token "${tokenFile}"`, error);
    }),
  ]);
  const server = `https://${host.includes(":") ? `[${host}]` : host}:${port}`;
  const proxyUrl = proxyFor(server, o.env);
  return {
    endpoint: {
      key: localClusterKey,
      server,
      ...(caPem === undefined ? {} : { caPem }),
      ...(proxyUrl === undefined ? {} : { proxyUrl }),
    },
    credential: tokenFileCredential(
      () => readFile(tokenFile, "utf8"),
      () => clock.monotonic(),
    ),
    ...(namespace === undefined ? {} : { namespace: namespace.trim() }),
  };
}

/** `HTTPS_PROXY` unless `NO_PROXY` covers the host: names with their subdomains, `*`, addresses as written, IPv4 ranges. */
export function proxyFor(server: string, env: Readonly<Record<string, string | undefined>>): string | undefined {
  const proxy = asText(env["HTTPS_PROXY"]) ?? asText(env["https_proxy"]);
  if (proxy === undefined || !URL.canParse(server)) return undefined;
  const url = new URL(server);
  if (url.protocol !== "https:") return undefined;
  const host = url.hostname.replace(/^\[|\]$/g, "").toLowerCase();
  if (host === "localhost" || host === "::1" || /^127\./.test(host)) return undefined;
  const exempt = (asText(env["NO_PROXY"]) ?? asText(env["no_proxy"]) ?? "")
    .split(",")
    .map((entry) => entry.trim().toLowerCase());
  return exempt.some((entry) => covers(entry, host, url.port || "443")) ? undefined : proxy;
}

function covers(entry: string, host: string, port: string): boolean {
  if (entry === "") return false;
  if (entry === "*") return true;
  const range = /^(\d+\.\d+\.\d+\.\d+)\/(\d+)$/.exec(entry);
  if (range !== null) return inRange(host, range[1] ?? "", Number(range[2]));
  const [, name = entry, wanted] = /^([^:]+):(\d+)$/.exec(entry) ?? [];
  if (wanted !== undefined && wanted !== port) return false;
  const bare = name.replace(/^\*?\./, "");
  return host === bare || host.endsWith(`.${bare}`);
}

function inRange(host: string, network: string, bits: number): boolean {
  const [a, b] = [ipv4(host), ipv4(network)];
  if (a === undefined || b === undefined || bits > 32) return false;
  const size = 2 ** (32 - bits);
  return Math.floor(a / size) === Math.floor(b / size);
}

function ipv4(text: string): number | undefined {
  const parts = text.split(".").map(Number);
  if (parts.length !== 4 || parts.some((part) => !Number.isInteger(part) || part < 0 || part > 255)) return undefined;
  return parts.reduce((sum, part) => sum * 256 + part, 0);
}
