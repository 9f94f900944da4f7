import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { BuildError, type BuildReason } from "./build-error.ts";
import { definedScope, draftManifest, type Draft, type OwnerLabels, type Scope } from "./draft.ts";
import { isDroppedHook } from "./helm-hook.ts";
import { Kustomize } from "./kustomize.ts";
import { buildKustomization } from "./kustomize-tree.ts";
import type { Manifest } from "./manifest.ts";
import { normaliseManifest } from "./normalise.ts";
import { readManifests } from "./read-manifests.ts";
import { scanTree, type ScannedTree } from "./scan-tree.ts";
import type { StagePatch } from "./stage-patch.ts";
import { usableValues } from "./substitute.ts";
import { substituteManifest } from "./substitute-manifest.ts";

/** Largest sum of manifests of a tree that is read without kustomize (spec 50 §6). */
const mostPlainBytes = 64 * 1024 * 1024;

const smallFileBytes = 16 * 1024;

/** What a build needs of the process: plain data, because it crosses to a worker. */
export interface RenderInput {
  /** Absolute path of the unpacked artifact. */
  readonly root: string;
  readonly path: string;
  readonly applyHelmHookResources: boolean;
  readonly labels: OwnerLabels;
  /** Of `postBuild`, as read; undefined: no substitution. */
  readonly values: ReadonlyMap<string, string> | undefined;
  readonly patches: readonly StagePatch[];
  /** Path of kustomize as a WebAssembly module; undefined: the tree needs none. */
  readonly kustomizeWasm: string | undefined;
}

/** The objects of a directory, but for what only the cluster knows. */
export type Rendered =
  | {
      readonly kind: "rendered";
      readonly drafts: readonly Draft[];
      /** By the render's own CustomResourceDefinitions: `<group>/<kind>` → scope. */
      readonly scopes: ReadonlyMap<string, Scope>;
    }
  | { readonly kind: "failed"; readonly reason: BuildReason; readonly message: string };

/**
 * Does everything of spec 20 §5 but namespaces and ids. Reads nothing outside the root, and no network. `scanned`: what
 * the directory was found to hold, whole.
 */
export async function renderTree(input: RenderInput, scanned?: ScannedTree): Promise<Rendered> {
  try {
    const drafts: Draft[] = [];
    const scopes = new Map<string, Scope>();
    const values = input.values === undefined ? undefined : usableValues(input.values);
    for await (const manifests of readTree(input, scanned)) {
      for (const manifest of manifests) {
        const finished = finishManifest(manifest, { values, hooks: input.applyHelmHookResources });
        if (finished === undefined) continue;
        drafts.push(draftManifest(finished, input.labels));
        const defined = definedScope(finished);
        if (defined !== undefined) scopes.set(...defined);
      }
    }
    return { kind: "rendered", drafts, scopes };
  } catch (error) {
    if (error instanceof BuildError) return { kind: "failed", reason: error.reason, message: error.message };
    throw error;
  }
}

/** Manifests file by file, so that only one file is held as objects at a time. */
async function* readTree(input: RenderInput, scanned?: ScannedTree): AsyncGenerator<readonly Manifest[]> {
  const tree = scanned ?? (await scanTree(input.root, input.path));
  if (needsKustomize(tree, input.patches)) {
    yield buildKustomization(kustomizeAt(input.kustomizeWasm), { root: input.root, tree, patches: input.patches });
    return;
  }
  if (tree.totalBytes > mostPlainBytes)
    throw new BuildError(
      "Limit",
      `Cannot build: manifests are ${tree.totalBytes} bytes, at most ${mostPlainBytes} allowed`,
    );
  for (const { path, bytes: size } of tree.files) {
    const file = join(input.root, path);
    // The way to the thread pool and back costs more than reading a small file.
    const bytes = size <= smallFileBytes ? readFileSync(file) : await readFile(file);
    yield readManifests(bytes, `"${path}"`, "kustomize");
  }
}

export function needsKustomize(tree: Pick<ScannedTree, "kustomizations">, patches: readonly StagePatch[]): boolean {
  return tree.kustomizations.length > 0 || patches.length > 0;
}

/** Compiled once per worker and module. */
const compiled = new Map<string, Kustomize>();

function kustomizeAt(path: string | undefined): Kustomize {
  if (path === undefined) throw new BuildError("Kustomize", "Cannot build a kustomization: kustomize is not installed");
  const kustomize = compiled.get(path) ?? new Kustomize(path);
  compiled.set(path, kustomize);
  return kustomize;
}

function finishManifest(
  written: Manifest,
  { values, hooks }: { readonly values: ReadonlyMap<string, string> | undefined; readonly hooks: boolean },
): Manifest | undefined {
  const manifest = values === undefined ? written : substituteManifest(written, values);
  return isDroppedHook(manifest, hooks) ? undefined : normaliseManifest(manifest);
}
