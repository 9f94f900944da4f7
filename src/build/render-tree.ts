import type { ArtifactTree } from "../pack/artifact-tree.ts";
import { PackError } from "../pack/pack-error.ts";
import { BuildError, type BuildReason } from "./build-error.ts";
import { DecryptionError } from "./decryption-error.ts";
import type { DecryptionInput, Decryptor, WantedDocument } from "./decryptor.ts";
import { definedScope, draftManifest, type Draft, type OwnerLabels, type Scope } from "./draft.ts";
import { isDroppedHook } from "./helm-hook.ts";
import { Kustomize } from "./kustomize.ts";
import { buildKustomization } from "./kustomize-tree.ts";
import type { Manifest } from "./manifest.ts";
import { normaliseManifest } from "./normalise.ts";
import { openTree } from "./open-tree.ts";
import { readManifests } from "./read-manifests.ts";
import { decryptSecret } from "./secret-documents.ts";
import { scanTree, type ScannedTree } from "./scan-tree.ts";
import { KeyProblem } from "./sops/key-text.ts";
import { formatOf } from "./sops/sops-format.ts";
import type { SopsProblemClass } from "./sops/sops-problem.ts";
import type { StagePatch } from "./stage-patch.ts";
import { usableValues } from "./substitute.ts";
import { substituteManifest } from "./substitute-manifest.ts";

/** Largest sum of manifests of a tree that is read without kustomize (spec 50 §6). */
const mostPlainBytes = 64 * 1024 * 1024;

/** What a build needs of the process: plain data, because it crosses to a worker. */
export interface RenderInput {
  /** Absolute path of the artifact's pack, or of a directory with its files. */
  readonly root: string;
  readonly path: string;
  readonly applyHelmHookResources: boolean;
  readonly labels: OwnerLabels;
  /** Of `postBuild`, as read; undefined: no substitution. */
  readonly values: ReadonlyMap<string, string> | undefined;
  readonly patches: readonly StagePatch[];
  /** Path of kustomize as a WebAssembly module; undefined: the tree needs none. */
  readonly kustomizeWasm: string | undefined;
  /** Undefined: nothing is decrypted. */
  readonly decryption: DecryptionInput | undefined;
}

/** The objects of a directory, but for what only the cluster knows. */
export type Rendered =
  | Failed
  | Undecryptable
  /** Nothing is rendered before services opened these. */
  | { readonly kind: "wanted"; readonly documents: readonly WantedDocument[] }
  | {
      readonly kind: "rendered";
      readonly drafts: readonly Draft[];
      /** By the render's own CustomResourceDefinitions: `<group>/<kind>` → scope. */
      readonly scopes: ReadonlyMap<string, Scope>;
      /** Something in it was encrypted. */
      readonly decrypted: boolean;
    };

/** A document that cannot be decrypted, or an entry of the keys that is none. */
export type Undecryptable =
  | {
      readonly kind: "undecryptable";
      readonly path: string;
      readonly class: SopsProblemClass;
      readonly message: string;
    }
  | { readonly kind: "badKey"; readonly entry: string; readonly why: string };

export interface Failed {
  readonly kind: "failed";
  readonly reason: BuildReason;
  readonly message: string;
}

/** Opens the artifact for {@link renderTree}. */
export async function renderArtifact(input: RenderInput): Promise<Rendered> {
  return failuresAsValues(async () => {
    using artifact = await openTree(input.root);
    return await renderTree(input, { artifact, tree: await scanTree(artifact, input.path) });
  });
}

/**
 * Does everything of spec 20 §5 but namespaces and ids. Reads nothing outside the root, and no network. `tree`: what the
 * directory was found to hold, whole.
 */
export function renderTree(
  input: Omit<RenderInput, "root">,
  opened: { readonly artifact: ArtifactTree; readonly tree: ScannedTree },
): Promise<Rendered> {
  return failuresAsValues(async () => {
    const drafts: Draft[] = [];
    const scopes = new Map<string, Scope>();
    const values = input.values === undefined ? undefined : usableValues(input.values);
    const decryptor = await createDecryptor(input.decryption);
    await decryptor?.check();
    for await (const manifests of readTree(input, { ...opened, decryptor })) {
      for (const written of manifests) {
        const manifest = decryptor === undefined ? written : await decryptSecret(written, decryptor);
        const finished = finishManifest(manifest, { values, hooks: input.applyHelmHookResources });
        if (finished === undefined) continue;
        drafts.push(draftManifest(finished, input.labels));
        const defined = definedScope(finished);
        if (defined !== undefined) scopes.set(...defined);
      }
    }
    const wanted = decryptor?.wanted ?? [];
    if (wanted.length > 0) return { kind: "wanted", documents: wanted };
    return { kind: "rendered", drafts, scopes, decrypted: decryptor?.used ?? false };
  });
}

/** Loaded when something may be encrypted: it is more than all the rest of a build. */
async function createDecryptor(input: DecryptionInput | undefined): Promise<Decryptor | undefined> {
  return input === undefined ? undefined : new (await import("./decryptor.ts")).Decryptor(input);
}

/** What a build says to fail, as part of its answer: errors lose their class on the way out of a worker. */
export async function failuresAsValues<T>(run: () => T | Promise<T>): Promise<T | Failed | Undecryptable> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof DecryptionError)
      return { kind: "undecryptable", path: error.path, class: error.class, message: error.message };
    if (error instanceof KeyProblem) return { kind: "badKey", entry: error.entry, why: error.why };
    if (error instanceof BuildError) return { kind: "failed", reason: error.reason, message: error.message };
    if (error instanceof PackError)
      return { kind: "failed", reason: error.reason, message: `Cannot build: ${error.message}` };
    throw error;
  }
}

/** Manifests file by file, so that only one file is held as objects at a time. */
async function* readTree(
  { patches, kustomizeWasm }: Omit<RenderInput, "root">,
  {
    artifact,
    tree,
    decryptor,
  }: { readonly artifact: ArtifactTree; readonly tree: ScannedTree; readonly decryptor: Decryptor | undefined },
): AsyncGenerator<readonly Manifest[]> {
  if (needsKustomize(tree, patches)) {
    yield await buildKustomization(kustomizeAt(kustomizeWasm), { artifact, tree, patches, decryptor });
    return;
  }
  if (tree.totalBytes > mostPlainBytes)
    throw new BuildError(
      "Limit",
      `Cannot build: manifests are ${tree.totalBytes} bytes, at most ${mostPlainBytes} allowed`,
    );
  for (const { path } of tree.files) {
    const written = artifact.read(path);
    const format = formatOf(path);
    const plain = await decryptor?.decrypt(path, written, { input: format, output: format });
    // Nothing is rendered while something is wanted, and what is encrypted need not be a manifest.
    if ((decryptor?.wanted.length ?? 0) === 0) yield readManifests(plain ?? written, `"${path}"`, "kustomize");
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
