import type { ArtifactTree } from "../pack/artifact-tree.ts";
import { BuildError } from "./build-error.ts";
import type { Decryptor } from "./decryptor.ts";
import { checkKustomization, type FileUse } from "./kustomization-check.ts";
import type { Kustomize } from "./kustomize.ts";
import type { Manifest } from "./manifest.ts";
import { decode, parseDocuments, readManifests } from "./read-manifests.ts";
import { isKustomizationName, type ScannedTree } from "./scan-tree.ts";
import { formatOf } from "./sops/sops-format.ts";
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
export async function buildKustomization(
  kustomize: Kustomize,
  {
    artifact,
    tree,
    patches,
    decryptor,
  }: {
    readonly artifact: ArtifactTree;
    readonly tree: ScannedTree;
    readonly patches: readonly StagePatch[];
    readonly decryptor: Decryptor | undefined;
  },
): Promise<readonly Manifest[]> {
  const files = new WasiTree(artifact, mostReadBytes);
  const decrypted = new Set<string>();
  const decrypt = async (uses: readonly FileUse[]): Promise<void> => {
    for (const use of uses) await decryptFile(use, { files, decryptor, decrypted });
  };
  const added = patches.map(renderStagePatch);
  const explicit = files.list(tree.directory).filter(isKustomizationName);
  const [name = "kustomization.yaml"] = explicit;
  const path = tree.directory === "" ? name : `${tree.directory}/${name}`;
  if (explicit.length === 0) {
    await decrypt(tree.files.map((file) => ({ path: file.path, as: file.path, env: false })));
    files.put(path, printed(generated(files, tree, added)));
  } else if (added.length > 0) files.put(path, printed(withPatches(readKustomization(files, path), added, path)));
  // What was decrypted is checked like the rest, and may refer to more.
  for (let before = -1; before !== decrypted.size;) {
    before = decrypted.size;
    const uses: FileUse[] = [];
    checkKustomization(files, tree.directory, {
      onEmpty: (path) => files.put(path, printed({ resources: [] })),
      onFile: (use) => void uses.push(use),
    });
    if (decryptor !== undefined) await decrypt(uses);
  }
  if ((decryptor?.wanted.length ?? 0) > 0) return [];
  const output = kustomize.build({ files, directory: tree.directory });
  return readManifests(output, "the kustomization", "api");
}

/** Puts a file that is encrypted into the tree in the clear. The first use of it says what it is. */
async function decryptFile(
  { path, as, env }: FileUse,
  o: { readonly files: WasiTree; readonly decryptor: Decryptor | undefined; readonly decrypted: Set<string> },
): Promise<void> {
  if (o.decryptor === undefined || o.decrypted.has(path)) return;
  o.decrypted.add(path);
  const named = formatOf(as);
  const format = env && named === "binary" ? "dotenv" : named;
  const plain = await o.decryptor.decrypt(path, o.files.read(path), { input: format, output: format });
  if (plain !== undefined) o.files.put(path, plain);
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
