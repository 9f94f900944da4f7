import type { ComputePool } from "../compute/pool.ts";
import type { ObjectId } from "../domain/object-id.ts";
import type { RenderedObject } from "../domain/rendered.ts";
import { BuildError } from "./build-error.ts";
import { DecryptionError } from "./decryption-error.ts";
import type { WantedDocument } from "./decryptor.ts";
import type { OwnerLabels, Scope } from "./draft.ts";
import { finishDrafts } from "./finish-drafts.ts";
import { openTree } from "./open-tree.ts";
import { renderJobName } from "./render-job.ts";
import { failuresAsValues, needsKustomize, renderTree, type Rendered, type RenderInput } from "./render-tree.ts";
import { scanTree } from "./scan-tree.ts";
import { KeyProblem } from "./sops/key-text.ts";
import type { OpenedShares } from "./sops/data-key.ts";
import type { PrivateKeyTexts } from "./sops/private-keys.ts";
import type { StagePatch } from "./stage-patch.ts";
import type { Variables } from "./variables.ts";

export type { StagePatch } from "./stage-patch.ts";
export type { Variables } from "./variables.ts";

/** Longest a build may take (spec 20 §5). */
const buildTimeoutMs = 60_000;
/** Plain trees up to this many bytes take a few milliseconds, less than the way to a worker and back. */
const smallTreeBytes = 64 * 1024;
/** Builds above this many bytes of manifests run one at a time. */
const bigTreeBytes = 4 * 1024 * 1024;
const bigArtifact = { bytes: bigTreeBytes, entries: 2_000 };

/**
 * Scopes of kinds in the target cluster, by `<group>/<kind>`; undefined for a kind it does not serve.
 *
 * @throws what its discovery throws; `buildStage` passes it on
 */
export type ScopeLookup = (
  kinds: readonly { readonly group: string; readonly kind: string }[],
  signal: AbortSignal,
) => Promise<ReadonlyMap<string, Scope | undefined>>;

export interface BuildRequest {
  /** Absolute path of the artifact's pack, or of a directory with its files; nothing is written there. */
  readonly root: string;
  readonly path: string;
  readonly patches: readonly StagePatch[];
  /** Undefined: no substitution. */
  readonly variables: Variables | undefined;
  readonly applyHelmHookResources: boolean;
  readonly defaultNamespace: string;
  readonly labels: OwnerLabels;
  /** Undefined: encrypted files are taken as they are. */
  readonly decryption?: Decryption | undefined;
}

/** What encrypted files are decrypted with (spec 50 §3). */
export interface Decryption {
  readonly keys: PrivateKeyTexts;
  /**
   * Asks services for what they alone can open. A document whose share is not among the answers cannot be decrypted.
   *
   * @throws {DecryptionError}
   */
  readonly open?: (documents: readonly WantedDocument[], signal: AbortSignal) => Promise<OpenedShares>;
}

export interface BuildOptions {
  readonly compute: ComputePool;
  readonly scopes: ScopeLookup;
  readonly signal: AbortSignal;
  /** Builds of one queue, a namespace, wait for each other before they delay another's. */
  readonly queue: string;
  /** Path of kustomize as a WebAssembly module; asked for when a build needs it. Without, kustomizations are refused. */
  readonly kustomize?: () => Promise<string>;
  /** Default: 60 s. */
  readonly timeoutMs?: number;
}

export interface Built {
  /** In the build's order; applying orders them again. */
  readonly objects: readonly RenderedObject[];
  /** Helm hooks among the objects that are applied like any other, for the Event `HelmHookApplied`. */
  readonly hooks: readonly ObjectId[];
  /** Some kind is not served yet: whether its objects have a namespace is not known for good. */
  readonly unscoped: boolean;
  /** Something that was decrypted went into it. */
  readonly decrypted: boolean;
}

/**
 * Turns a directory of an artifact into final objects (spec 20 §5).
 *
 * @throws {BuildError}
 * @throws {DecryptionError}
 * @throws {KeyProblem} an entry of the keys cannot be used
 * @throws {ComputeError} when the build takes longer than 60 s or too much memory
 * @throws the signal's reason, when aborted
 */
export async function buildStage(request: BuildRequest, o: BuildOptions): Promise<Built> {
  const rendered = await renderDecrypted(request, o);
  const { drafts, decrypted } = rendered;
  const asked = new Map(drafts.map(({ group, kind }) => [`${group}/${kind}`, { group, kind }]));
  for (const defined of rendered.scopes.keys()) asked.delete(defined);
  const served = asked.size === 0 ? new Map<string, Scope>() : await o.scopes([...asked.values()], o.signal);
  const scopes = new Map([...served, ...rendered.scopes]);
  const objects = await finishDrafts(drafts, {
    scopes,
    defaultNamespace: request.defaultNamespace,
    signal: o.signal,
  });
  const hooks = request.applyHelmHookResources ? objects.filter((object) => object.helmHook) : [];
  const unscoped = objects.some((object) => scopes.get(`${object.group}/${object.kind}`) === undefined);
  return { objects, hooks, unscoped, decrypted };
}

type Complete = Extract<Rendered, { kind: "rendered" }>;

/** Files first, then documents inside of Secrets: more than two rounds with services have no end. */
const mostRounds = 3;

async function renderDecrypted(request: BuildRequest, o: BuildOptions): Promise<Complete> {
  const opened = new Map<string, Uint8Array>();
  for (let round = 0; ; round++) {
    const rendered = await render(request, o, opened);
    switch (rendered.kind) {
      case "rendered":
        return rendered;
      case "failed":
        throw new BuildError(rendered.reason, rendered.message);
      case "undecryptable":
        throw new DecryptionError(rendered.path, rendered.class, rendered.message);
      case "badKey":
        throw new KeyProblem(rendered.entry, rendered.why);
      case "wanted": {
        const [first] = rendered.documents;
        const answers = round < mostRounds ? await request.decryption?.open?.(rendered.documents, o.signal) : undefined;
        const more = [...(answers ?? [])].filter(([name]) => !opened.has(name));
        if (more.length === 0)
          throw new DecryptionError(first?.path ?? "", "no usable key", "its key is with services that were not asked");
        for (const [name, share] of more) opened.set(name, share);
      }
    }
  }
}

async function render(request: BuildRequest, o: BuildOptions, opened: OpenedShares): Promise<Rendered> {
  const started = await failuresAsValues(() => start(request, o, opened));
  if (started.kind !== "large") return started;
  const output = await o.compute.run(renderJobName, started.input, {
    signal: o.signal,
    timeoutMs: o.timeoutMs ?? buildTimeoutMs,
    queue: o.queue,
    exclusive: started.exclusive,
  });
  // What `renderJob` put in its output.
  return output as Rendered;
}

/** What is left to a worker. */
interface Large {
  readonly kind: "large";
  readonly input: RenderInput;
  /** It is to run alone. */
  readonly exclusive: boolean;
}

/** Looks at what is to be built, and builds it when it is small. */
async function start(request: BuildRequest, o: BuildOptions, opened: OpenedShares): Promise<Rendered | Large> {
  const { root, path, applyHelmHookResources, labels, patches } = request;
  const decryption = request.decryption === undefined ? undefined : { keys: request.decryption.keys, opened };
  const values = request.variables?.values;
  using artifact = await openTree(root);
  const tree = await scanTree(artifact, path, { stopAfterBytes: bigTreeBytes });
  o.signal.throwIfAborted();
  const kustomized = needsKustomize(tree, patches);
  const kustomizeWasm = kustomized ? await o.kustomize?.() : undefined;
  const input: RenderInput = { root, path, applyHelmHookResources, labels, values, patches, kustomizeWasm, decryption };
  if (!kustomized && values === undefined && decryption === undefined && tree.totalBytes < smallTreeBytes)
    return await renderTree(input, { artifact, tree });
  // What a kustomization reads is not known yet, but no more than all there is.
  const exclusive = tree.stopped || (kustomized && artifact.isBiggerThan(bigArtifact));
  return { kind: "large", input, exclusive };
}
