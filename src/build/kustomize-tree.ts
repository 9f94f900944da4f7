import type { ArtifactTree } from "../pack/artifact-tree.ts";
import { BuildError } from "./build-error.ts";
import { checkKustomization } from "./kustomization-check.ts";
import type { Kustomize } from "./kustomize.ts";
import type { Manifest } from "./manifest.ts";
import { decode, parseDocuments, readManifests } from "./read-manifests.ts";
import { isKustomizationName, type ScannedTree } from "./scan-tree.ts";
import { renderStagePatch, type StagePatch } from "./stage-patch.ts";
import { WasiTree } from "./wasi-tree.ts";
import { printYaml } from "./yaml-print.ts";
import { isMapping, sequenceAt, withMembers, type YamlMapping } from "./yaml-value.ts";

/** Files one build reads (spec 50 §6). */
const mostReadBytes = 16 * 1024 * 1024;

/**
 * The objects of a kustomization; of a generated one, when the directory has none (spec 20 §5.2).
 *
 * @throws {BuildError}
 */
export function buildKustomization(
  kustomize: Kustomize,
  {
    artifact,
    tree,
    patches,
  }: { readonly artifact: ArtifactTree; readonly tree: ScannedTree; readonly patches: readonly StagePatch[] },
): readonly Manifest[] {
  const files = new WasiTree(artifact, mostReadBytes);
  const added = patches.map(renderStagePatch);
  const explicit = files.list(tree.directory).filter(isKustomizationName);
  const [name = "kustomization.yaml"] = explicit;
  const path = tree.directory === "" ? name : `${tree.directory}/${name}`;
  if (explicit.length === 0) files.put(path, printed(generated(files, tree, added)));
  else if (added.length > 0) files.put(path, printed(withPatches(readKustomization(files, path), added, path)));
  checkKustomization(files, tree.directory, (path) => files.put(path, printed({ resources: [] })));
  const output = kustomize.build({ files, directory: tree.directory });
  return readManifests(output, "the kustomization", "api");
}

function printed(kustomization: YamlMapping): Uint8Array {
  return Buffer.from(printYaml(kustomization), "utf8");
}

function generated(files: WasiTree, tree: ScannedTree, patches: readonly YamlMapping[]): YamlMapping {
  // Read for their errors only, which name the file and what is wrong with it; kustomize reads them again.
  for (const { path } of tree.files) readManifests(files.read(path), `"${path}"`, "kustomize");
  const prefix = tree.directory === "" ? 0 : tree.directory.length + 1;
  return {
    apiVersion: "kustomize.config.k8s.io/v1beta1",
    kind: "Kustomization",
    resources: tree.entries.map((entry) => entry.slice(prefix)),
    patches,
  };
}

function readKustomization(files: WasiTree, path: string): YamlMapping {
  const origin = `"${path}"`;
  const [document = null, ...more] = parseDocuments(decode(files.read(path), origin), origin, "api");
  if (document === null) return {};
  if (!isMapping(document) || more.length > 0)
    throw new BuildError("Kustomize", `Cannot build: ${origin} is not a kustomization`);
  return document;
}

function withPatches(kustomization: YamlMapping, patches: readonly YamlMapping[], path: string): YamlMapping {
  const own = kustomization["patches"] ?? null;
  if (own !== null && !Array.isArray(own))
    throw new BuildError("Kustomize", `Cannot build: "patches" in "${path}" is not a list`);
  return withMembers(kustomization, { patches: [...sequenceAt(kustomization, "patches"), ...patches] });
}
