import { posix } from "node:path";
import { BuildError } from "./build-error.ts";
import { annotationOrLabel } from "./manifest.ts";
import { decode, parseDocuments } from "./read-manifests.ts";
import { isKustomizationName } from "./scan-tree.ts";
import type { WasiTree } from "./wasi-tree.ts";
import {
  isMapping,
  isSequence,
  mappingAt,
  sequenceAt,
  textAt,
  valueAt,
  type YamlMapping,
  type YamlValue,
} from "./yaml-value.ts";

/** Fields that run Helm. */
const refusedFields = ["helmCharts", "helmGlobals", "helmChartInflationGenerator"];
/** Lists of files or of directories with a kustomization. */
const treeFields = ["resources", "bases", "components"];
/** The same, or the configuration of a plugin itself. */
const pluginFields = ["generators", "transformers", "validators"];
const fileFields = ["crds", "configurations"];
const pathFields = ["patches", "patchesJson6902", "replacements"];
const sourceFields = ["configMapGenerator", "secretGenerator"];

/**
 * Refuses what a build must not do, before it starts: load over the network, read outside the artifact, run programs or
 * Helm (spec 20 §5.2). Follows everything the kustomization in this directory refers to. `onEmpty` is told of
 * kustomization files without a field, which kustomize refuses and we take for one without resources; `onFile` of files
 * that the build reads, where the name they are used by may say more than their own.
 *
 * @throws {BuildError} `Kustomize`, naming file and reference; `Yaml`
 */
export function checkKustomization(
  tree: WasiTree,
  directory: string,
  { onEmpty, onFile = () => undefined }: KustomizationListener,
): void {
  const seen = new Set([directory]);
  for (const current of seen) {
    for (const name of tree.list(current)) {
      if (!isKustomizationName(name)) continue;
      const path = posix.join(current, name);
      const check = new Check(tree, { directory: current, file: path, onFile });
      for (const found of check.directories()) seen.add(found);
      if (check.isEmpty()) onEmpty(path);
    }
  }
}

export interface KustomizationListener {
  readonly onEmpty: (path: string) => void;
  readonly onFile?: (file: FileUse) => void;
}

/** A file that a kustomization reads. */
export interface FileUse {
  readonly path: string;
  /** What its content is known by: its own name, the key a generator gives it. */
  readonly as: string;
  /** Lines of `KEY=value`, whatever its name. */
  readonly env: boolean;
}

class Check {
  readonly #tree: WasiTree;
  readonly #directory: string;
  readonly #file: string;
  readonly #onFile: (file: FileUse) => void;
  readonly #directories: string[] = [];

  constructor(
    tree: WasiTree,
    of: { readonly directory: string; readonly file: string; readonly onFile: (file: FileUse) => void },
  ) {
    this.#tree = tree;
    this.#directory = of.directory;
    this.#file = of.file;
    this.#onFile = of.onFile;
  }

  isEmpty(): boolean {
    const identity = ["apiVersion", "kind", "metadata"];
    return this.#documents(this.#file).every(
      (value) => value === null || (isMapping(value) && Object.keys(value).every((key) => identity.includes(key))),
    );
  }

  /** Checks the file; the directories it refers to are left to check. */
  directories(): readonly string[] {
    for (const value of this.#documents(this.#file)) if (isMapping(value)) this.#kustomization(value);
    return this.#directories;
  }

  #documents(file: string): readonly YamlValue[] {
    return parseDocuments(decode(this.#tree.read(file), `"${file}"`), `"${file}"`, "api");
  }

  #kustomization(value: YamlMapping): void {
    for (const field of refusedFields)
      if (valueAt(value, field) !== undefined) throw this.#refused(`uses "${field}"; Helm is not run here`);
    for (const field of treeFields) for (const entry of textsAt(value, field)) this.#reference(field, entry);
    for (const field of fileFields) for (const entry of textsAt(value, field)) this.#reference(field, entry);
    for (const field of pluginFields) for (const entry of textsAt(value, field)) this.#plugin(field, entry);
    for (const entry of textsAt(value, "patchesStrategicMerge"))
      if (!entry.includes("\n") && !entry.trimStart().startsWith("{")) this.#reference("patchesStrategicMerge", entry);
    for (const field of pathFields)
      for (const entry of sequenceAt(value, field)) this.#optional(field, textAt(entry, "path"));
    for (const field of sourceFields) for (const entry of sequenceAt(value, field)) this.#sources(field, entry);
    this.#optional("openapi", textAt(value, "openapi", "path"));
  }

  #sources(field: string, generator: YamlValue): void {
    for (const entry of textsAt(generator, "files")) this.#reference(field, pathOf(entry), { as: keyOf(entry) });
    for (const entry of textsAt(generator, "envs")) this.#reference(field, entry, { env: true });
    this.#optional(field, textAt(generator, "env"), { env: true });
  }

  #optional(field: string, entry: string, use: Partial<Omit<FileUse, "path">> = {}): void {
    if (entry !== "") this.#reference(field, entry, use);
  }

  /** Resolves a reference; returns the file's path, undefined for a directory. */
  #reference(field: string, entry: string, use: Partial<Omit<FileUse, "path">> = {}): string | undefined {
    if (isRemote(entry)) throw this.#refused(`loads "${entry}" in "${field}"; nothing is loaded over the network`);
    const path = posix.join(this.#directory, entry).replace(/\/+$/, "");
    const outside = posix.isAbsolute(entry) || path === ".." || path.startsWith("../");
    if (outside) throw this.#refused(`reads "${entry}" in "${field}", which is outside of the artifact`);
    const normal = path === "." ? "" : path;
    const found = this.#tree.find(normal);
    if (found === undefined) throw this.#refused(`refers to "${entry}" in "${field}", which does not exist`);
    if (found.kind === "file") {
      this.#onFile({ path: normal, as: use.as ?? normal, env: use.env ?? false });
      return normal;
    }
    this.#directories.push(normal);
    return undefined;
  }

  /** Built-in plugins, in a file or right here, may be configured; programs may not. */
  #plugin(field: string, entry: string): void {
    const inline = entry.includes("\n") || entry.trimStart().startsWith("{");
    const file = inline ? this.#file : this.#reference(field, entry);
    if (file === undefined) return;
    const documents = inline ? parseDocuments(entry, `"${file}"`, "api") : this.#documents(file);
    for (const value of documents) if (isMapping(value)) this.#pluginConfiguration(field, value);
  }

  #pluginConfiguration(field: string, value: YamlMapping): void {
    const runs =
      textAt(value, "kind").startsWith("HelmChart") ||
      ["config.kubernetes.io/function", "config.k8s.io/function"].some(
        (key) => annotationOrLabel(value, key) !== undefined,
      );
    if (runs) throw this.#refused(`runs "${textAt(value, "kind")}" in "${field}"; programs are not run here`);
    for (const key of ["files", "paths", "crds"])
      for (const entry of textsAt(value, key)) this.#local(field, pathOf(entry), { as: keyOf(entry) });
    for (const entry of textsAt(value, "envs")) this.#local(field, entry, { env: true });
    this.#local(field, textAt(value, "env"), { env: true });
    this.#local(field, textAt(value, "path"));
  }

  #local(field: string, entry: string, use: Partial<Omit<FileUse, "path">> = {}): void {
    if (isRemote(entry)) throw this.#refused(`loads "${entry}" in "${field}"; nothing is loaded over the network`);
    const path = posix.join(this.#directory, entry);
    if (entry === "" || posix.isAbsolute(entry) || path.startsWith("../")) return;
    if (this.#tree.find(path)?.kind === "file") this.#onFile({ path, as: use.as ?? path, env: use.env ?? false });
  }

  #refused(why: string): BuildError {
    return new BuildError("Kustomize", `Cannot build: "${this.#file}" ${why}`);
  }
}

/** `key=path` → path; the key is the file's name without one. */
function pathOf(entry: string): string {
  return entry.slice(entry.indexOf("=") + 1);
}

function keyOf(entry: string): string {
  return entry.includes("=") ? entry.slice(0, entry.indexOf("=")) : entry;
}

/** A URL, or what kustomize takes for a Git repository: `git::…`, `user@host:…`, `github.com/…`. */
export function isRemote(reference: string): boolean {
  return (
    /^\s*(?:[a-z][a-z0-9+.-]*:)?\/\//i.test(reference) ||
    /^\s*(?:[a-z]+::|[^/@\s]+@[^/:\s]+[:/]|(?:www\.)?(?:git@)?(?:github\.com|gitlab\.com|bitbucket\.org)[:/]|gh:)/i.test(
      reference,
    )
  );
}

function textsAt(value: YamlValue, field: string): readonly string[] {
  const found = mappingAt(value)?.[field];
  if (typeof found === "string") return [found];
  return isSequence(found) ? found.filter((entry) => typeof entry === "string") : [];
}
