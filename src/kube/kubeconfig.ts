import { dirname, isAbsolute, resolve } from "node:path";
import { parse } from "yaml";
import { asArray, asObject, asText, at } from "../lib/json.ts";

/** A kubeconfig could not be used; the message names the file or the entry, never its content. */
export class KubeConfigError extends Error {
  override name = "KubeConfigError";
  readonly reason: "NotFound" | "Malformed" | "Incomplete";
  readonly retry = "never";
  constructor(reason: KubeConfigError["reason"], message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.reason = reason;
  }
}

type Entry = Readonly<Record<string, unknown>>;

/** Kubeconfig files merged: the first to set a value wins, lists are merged by name. File references are absolute. */
export interface KubeConfigFile {
  readonly currentContext: string | undefined;
  readonly clusters: ReadonlyMap<string, Entry>;
  readonly users: ReadonlyMap<string, Entry>;
  readonly contexts: ReadonlyMap<string, Entry>;
}

/** What one context points at. */
export interface KubeConfigSelection {
  readonly contextName: string | undefined;
  readonly namespace: string | undefined;
  readonly cluster: Entry;
  readonly user: Entry;
}

const fileReferences = ["certificate-authority", "client-certificate", "client-key", "tokenFile"];

/** @throws {KubeConfigError} `Malformed` */
export function mergeKubeConfigs(files: readonly { readonly path: string; readonly text: string }[]): KubeConfigFile {
  let currentContext: string | undefined;
  const clusters = new Map<string, Entry>();
  const users = new Map<string, Entry>();
  const contexts = new Map<string, Entry>();
  for (const { path, text } of files) {
    const file = parseFile(path, text);
    currentContext ??= asText(file["current-context"]);
    collect(clusters, { list: file["clusters"], field: "cluster", path });
    collect(users, { list: file["users"], field: "user", path });
    collect(contexts, { list: file["contexts"], field: "context", path });
  }
  return { currentContext, clusters, users, contexts };
}

function parseFile(path: string, text: string): Entry {
  let parsed: unknown;
  try {
    parsed = parse(text);
  } catch {
    // The parser quotes its input, which may be a credential.
    throw new KubeConfigError("Malformed", `Cannot read kubeconfig "${path}": it is no YAML`);
  }
  if (parsed === null) return {};
  const file = asObject(parsed);
  if (file === undefined) throw new KubeConfigError("Malformed", `Cannot read kubeconfig "${path}": it is no mapping`);
  return file;
}

function collect(
  into: Map<string, Entry>,
  { list, field, path }: { readonly list: unknown; readonly field: string; readonly path: string },
): void {
  for (const item of asArray(list)) {
    const name = at(item, "name");
    if (typeof name !== "string" || into.has(name)) continue;
    const entry: Record<string, unknown> = { ...asObject(at(item, field)) };
    for (const key of fileReferences) {
      const file = asText(entry[key]);
      if (file !== undefined && !isAbsolute(file)) entry[key] = resolve(dirname(path), file);
    }
    into.set(name, entry);
  }
}

/**
 * Picks a context (default: the current one), and what overrides say instead of its cluster and user.
 *
 * @throws {KubeConfigError} `Incomplete`, naming what is missing
 */
export function selectContext(
  config: KubeConfigFile,
  o: {
    readonly context?: string | undefined;
    readonly cluster?: string | undefined;
    readonly user?: string | undefined;
  } = {},
): KubeConfigSelection {
  const contextName = o.context ?? config.currentContext;
  const context = contextName === undefined ? undefined : config.contexts.get(contextName);
  if (contextName !== undefined && context === undefined) {
    throw new KubeConfigError(
      "Incomplete",
      `Cannot use context "${contextName}": the kubeconfig has none of this name`,
    );
  }
  const clusterName = o.cluster ?? asText(context?.["cluster"]);
  const userName = o.user ?? asText(context?.["user"]);
  const cluster = clusterName === undefined ? undefined : config.clusters.get(clusterName);
  if (cluster === undefined || asText(cluster["server"]) === undefined) {
    const what = clusterName === undefined ? "no context is current" : `cluster "${clusterName}" has no server`;
    throw new KubeConfigError("Incomplete", `Cannot use the kubeconfig: ${what}`);
  }
  const user = userName === undefined ? {} : config.users.get(userName);
  if (user === undefined) {
    throw new KubeConfigError("Incomplete", `Cannot use the kubeconfig: it has no user "${userName ?? ""}"`);
  }
  return { contextName, namespace: asText(context?.["namespace"]), cluster, user };
}
