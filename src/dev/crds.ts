import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { asArray, asText, at } from "../lib/json.ts";
import { sleep, systemClock } from "../lib/clock.ts";
import { type ApiTarget, callApi } from "./api-call.ts";
import { moduleFolder, type ModuleOwner, type ToolOptions } from "./tools.ts";

const establishedWithinMs = 30_000;

/** A folder of a pinned Go module, and the groups of it that are wanted; absent: all. */
interface ForeignSet {
  readonly owner: ModuleOwner;
  readonly goModule: string;
  readonly folder: string;
  readonly group?: string;
}

/** Sources of CustomResourceDefinitions other than our own. */
const foreign = {
  /** Flux's sources, ExternalArtifact among them. */
  flux: { owner: "source-controller", goModule: "github.com/fluxcd/source-controller", folder: "config/crd/bases" },
  flagger: { owner: "flagger", goModule: "github.com/fluxcd/flagger", folder: "artifacts/flagger" },
  rollouts: {
    owner: "rollouts-controller",
    goModule: "github.com/argoproj/argo-rollouts",
    folder: "manifests/crds",
  },
  /** What Flagger's provider `gatewayapi:v1` writes. */
  "gateway-api": { owner: "crds", goModule: "sigs.k8s.io/gateway-api", folder: "config/crd/standard" },
  /** AuthorizationPolicy and its like. */
  "istio-security": { owner: "crds", goModule: "istio.io/api", folder: "kubernetes", group: "security.istio.io" },
} as const satisfies Readonly<Record<string, ForeignSet>>;
export type CrdSet = "stageset" | keyof typeof foreign;

/** The definitions of a set; ours come from `config/crd`, others from the pinned Go modules of their controllers. */
export async function readCrds(set: CrdSet, options: ToolOptions = {}): Promise<readonly unknown[]> {
  const wanted: ForeignSet | undefined = set === "stageset" ? undefined : foreign[set];
  const folder =
    wanted === undefined
      ? fileURLToPath(new URL("../../config/crd/", import.meta.url))
      : await moduleFolder(wanted.owner, wanted.goModule, wanted.folder, options);
  const definitions: unknown[] = [];
  for (const file of (await readdir(folder)).filter((name) => name.endsWith(".yaml")).sort()) {
    const text = await readFile(join(folder, file), "utf8");
    // One by one, because some files hold a megabyte of definitions of which few are wanted.
    for (const document of text.split(/^---$/m)) {
      if (!document.includes("CustomResourceDefinition")) continue;
      if (wanted?.group !== undefined && !document.includes(`group: ${wanted.group}`)) continue;
      const definition: unknown = parse(indentQuoted(document));
      if (at(definition, "kind") === "CustomResourceDefinition") definitions.push(definition);
    }
  }
  return definitions;
}

/**
 * Indents the further lines of quoted texts below their key, which Go's parser does not ask for: Flagger's file has
 * them beside it. White space at a line break in quotes has no meaning.
 */
function indentQuoted(yaml: string): string {
  const quoted = /^( *)([\w-]+: '(?:[^'\n]|'')*)\n((?:[^']|'')*')/gm;
  return yaml.replace(quoted, (_whole, indent: string, first: string, rest: string) => {
    return `${indent}${first}\n${rest.replace(/^/gm, `${indent}  `)}`;
  });
}

/**
 * Applies the definitions and waits until the API server serves them.
 *
 * @throws an Error that names the definition, when it is refused or not served within 30 s
 * @throws the signal's reason, when aborted
 */
export async function installCrds(
  api: ApiTarget,
  sets: readonly CrdSet[],
  options: ToolOptions = {},
): Promise<readonly string[]> {
  const definitions = (await Promise.all(sets.map((set) => readCrds(set, options)))).flat();
  return Promise.all(definitions.map((definition) => installCrd(api, definition, options.signal)));
}

/** Applies one definition and waits until it is served; returns its name. */
export async function installCrd(api: ApiTarget, definition: unknown, signal?: AbortSignal): Promise<string> {
  const name = asText(at(definition, "metadata", "name")) ?? "";
  const path = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${name}`;
  const { status, body } = await callApi(api, "PATCH", `${path}?fieldManager=stageset-dev&force=true`, {
    body: definition,
    contentType: "application/apply-patch+yaml",
  });
  if (status >= 300) throw new Error(`Cannot install "${name}": ${asText(at(body, "message")) ?? String(status)}`);
  const giveUpAt = systemClock.monotonic() + establishedWithinMs;
  for (;;) {
    const now = await callApi(api, "GET", path);
    if (isTrue(now.body, "Established") && (await isServed(api, definition))) return name;
    if (systemClock.monotonic() > giveUpAt) throw new Error(`Cannot install "${name}": it is not served after 30 s`);
    await sleep(systemClock, 50, signal);
  }
}

function isTrue(definition: unknown, condition: string): boolean {
  return asArray(at(definition, "status", "conditions")).some(
    (one) => at(one, "type") === condition && at(one, "status") === "True",
  );
}

// Established is set a moment before the first request succeeds.
async function isServed(api: ApiTarget, definition: unknown): Promise<boolean> {
  const group = asText(at(definition, "spec", "group")) ?? "";
  const plural = asText(at(definition, "spec", "names", "plural")) ?? "";
  const versions = asArray(at(definition, "spec", "versions")).filter((one) => at(one, "served") === true);
  for (const version of versions) {
    const path = `/apis/${group}/${asText(at(version, "name")) ?? ""}/${plural}?limit=1`;
    if ((await callApi(api, "GET", path)).status !== 200) return false;
  }
  return true;
}
