import { createHash } from "node:crypto";
import type { ComputePool } from "../compute/pool.ts";
import { ComputeError } from "../compute/compute-error.ts";
import type { JudgingPolicy } from "../domain/images/governing.ts";
import { needsTrustedRoot, type GovernedImage } from "../domain/images/plan-images.ts";
import { deadline, DeadlineExceeded } from "../lib/abort.ts";
import type { Clock } from "../lib/clock.ts";
import { createFairLimiter } from "../lib/fair-limiter.ts";
import { asArray, asText, at } from "../lib/json.ts";
import { createHostPlaces } from "./host-places.ts";
import { createReadBudget, type ReadBudget, type ReadMemory } from "./read-budget.ts";
import { bundleJobName, type BundleToCheck, type CheckedBundle } from "./bundle-to-check.ts";
import { isDigest, openRepository, type Credential, type RegistryOptions, type Repository } from "./registry-client.ts";
import { RegistryError } from "./registry-error.ts";

/** Spec 50 §4.3. */
const mostReferrers = 64;
const mostBundleBytes = 8 * 1024 * 1024;
const mostBytesPerImage = 32 * 1024 * 1024;
const imageTimeoutMs = 60_000;
const acceptedForMs = 3_600_000;
const refusedForMs = 30_000;

const bundleType = "application/vnd.dev.sigstore.bundle";
/** Descriptors that are read to find the bundles among them: attestations of other kinds are referrers too. */
const mostDescriptors = 512;
const bundleTimeoutMs = 10_000;
const mostRemembered = 10_000;
/** A registry that answers no one must not keep other namespaces from theirs. */
const places = { places: 96, placesPerGroup: 4, burst: 100, perSecond: 50 };
const placesPerHost = { places: 8, placesPerGroup: 4 };
/** Held at one time of large answers of all registries. */
const mostBytesHeld = 64 * 1024 * 1024;

/** What became of one image. `unknown`: it could not be told whether it is signed, so it is not. */
export type ImageVerdict =
  | { readonly kind: "accepted"; readonly digest: string }
  | { readonly kind: "refused" | "unknown"; readonly why: string };

export interface VerifyRequest {
  readonly image: GovernedImage;
  /** On record for the image's tag: judged again, and not looked up. */
  readonly pinned: string | undefined;
  /** Of whoever pulls the image; asked at most once. */
  readonly credential: (signal: AbortSignal) => Promise<Credential | undefined>;
  /** Tells whose credentials they are, where a refusal is remembered. */
  readonly puller: string;
  /** The namespace. */
  readonly queue: string;
}

export interface ImageVerifier {
  /**
   * Whether every policy accepts the image, at one digest that all of them judge.
   *
   * @throws the signal's reason, when aborted
   */
  verify(request: VerifyRequest, signal: AbortSignal): Promise<ImageVerdict>;
}

export interface ImageVerifierOptions extends RegistryOptions {
  readonly clock: Clock;
  readonly compute: ComputePool;
  /** The trusted root as JSON; asked only where an authority is keyless. @throws {RegistryError} */
  readonly trustedRoot: (signal: AbortSignal) => Promise<string>;
}

export function createImageVerifier(options: ImageVerifierOptions): ImageVerifier {
  const { clock } = options;
  const turns = createFairLimiter({ clock, ...places });
  const hosts = createHostPlaces({ clock, ...placesPerHost });
  const memory: ReadMemory = { left: mostBytesHeld };
  const accepted = createMemory<true>(clock, acceptedForMs);
  const refused = createMemory<ImageVerdict>(clock, refusedForMs);

  /** What is known of the image at this digest, and else what has to be asked for. */
  const recall = async (request: VerifyRequest, digest: string, signal: AbortSignal): Promise<Recalled> => {
    if (!isDigest(digest)) return { verdict: { kind: "refused", why: `its digest is not of sha256` } };
    const { reference, policies } = request.image;
    const keyless = policies.some(({ authorities }) => needsTrustedRoot(authorities));
    const root = keyless ? await options.trustedRoot(signal) : undefined;
    const keyOf = (policy: JudgingPolicy): string => JSON.stringify([digest, policy.version, rootKey(policy, root)]);
    const open = policies.filter((policy) => accepted.get(keyOf(policy)) === undefined);
    if (open.length === 0) return { verdict: { kind: "accepted", digest } };
    const name = JSON.stringify([
      ...[request.queue, request.puller, reference.registry, reference.repository, digest],
      ...open.map((policy) => keyOf(policy)),
    ]);
    const known = refused.get(name);
    return known === undefined ? { verdict: undefined, asking: { open, root, keyOf, name } } : { verdict: known };
  };

  const judge = async (request: VerifyRequest, budget: ReadBudget, signal: AbortSignal): Promise<ImageVerdict> => {
    const { reference } = request.image;
    const repository = openRepository(reference, { ...options, budget }, request.credential);
    const digest = knownDigest(request) ?? (await repository.resolve(reference.tag ?? "latest", signal));
    // Another one may have asked meanwhile.
    const known = await recall(request, digest, signal);
    if (known.verdict !== undefined) return known.verdict;
    const { open, root, keyOf, name } = known.asking;
    const from = { digest, policies: open, root, queue: request.queue, budget };
    const { left, why } = await checkAll(repository, from, signal);
    for (const policy of open) if (!left.includes(policy)) accepted.set(keyOf(policy), true);
    const [first] = left;
    if (first === undefined) return { kind: "accepted", digest };
    const verdict: ImageVerdict = {
      kind: "refused",
      why: `ImageVerificationPolicy "${first.name}" does not accept ${digest}: ${why}`,
    };
    refused.set(name, verdict);
    return verdict;
  };

  /** Reads one bundle after the other until every policy has accepted one of them. */
  const checkAll = async (
    repository: Repository,
    from: {
      readonly digest: string;
      readonly policies: readonly JudgingPolicy[];
      readonly root: string | undefined;
      readonly queue: string;
      readonly budget: ReadBudget;
    },
    signal: AbortSignal,
  ): Promise<{ readonly left: readonly JudgingPolicy[]; readonly why: string }> => {
    let left = from.policies;
    let why = "it is not signed";
    const descriptors = await repository.referrers(from.digest, mostDescriptors, signal);
    const bundles = descriptors.filter(({ artifactType }) => artifactType.startsWith(bundleType));
    for (const { digest } of bundles.slice(0, mostReferrers)) {
      from.budget.release();
      if (from.budget.isSpent) return { left, why: `its bundles have more than ${mostBytesPerImage} bytes` };
      const bundle = await readBundle(repository, digest, signal);
      if (bundle === undefined) continue;
      const checked = await check(
        {
          bundle,
          digest: from.digest,
          policies: left.map(({ authorities }) => authorities),
          trustedRoot: from.root,
        },
        { queue: from.queue, signal },
      );
      left = left.filter((_policy, index) => checked.accepted[index] !== true);
      if (left.length === 0) break;
      why = checked.why ?? why;
    }
    return { left, why };
  };

  const check = async (
    input: BundleToCheck,
    o: { readonly queue: string; readonly signal: AbortSignal },
  ): Promise<CheckedBundle> => {
    const none = { accepted: input.policies.map(() => false), why: "its bundle takes too long to check" };
    try {
      const output = await options.compute.run(bundleJobName, input, { ...o, timeoutMs: bundleTimeoutMs });
      // What `bundleJob` put in its output.
      return output as CheckedBundle;
    } catch (error) {
      if (!(error instanceof ComputeError)) throw error;
      return none;
    }
  };

  /** What `work` finds out within the time of one image. */
  const inTime = async <Found>(
    { image }: VerifyRequest,
    work: (signal: AbortSignal) => Promise<Found>,
    signal: AbortSignal,
  ): Promise<Found> => {
    using limit = deadline(clock, { timeoutMs: imageTimeoutMs, what: "verifying", parent: signal });
    try {
      return await work(limit.signal);
    } catch (cause) {
      signal.throwIfAborted();
      if (!limit.signal.aborted && !(cause instanceof DeadlineExceeded)) throw cause;
      const why = `registry "${image.reference.registry}" does not answer in time`;
      throw new RegistryError("unavailable", why, { cause });
    }
  };

  return {
    async verify(request, signal) {
      try {
        const digest = knownDigest(request);
        // Nobody has to be asked for what is known: it waits for no registry, and for nobody who does.
        const known =
          digest === undefined ? undefined : await inTime(request, (limit) => recall(request, digest, limit), signal);
        if (known?.verdict !== undefined) return known.verdict;
        using _host = await hosts.acquire(request.image.reference.registry, request.queue, signal);
        using _turn = await turns.acquire(request.queue, signal);
        const budget = createReadBudget(mostBytesPerImage, memory);
        try {
          return await inTime(request, (limit) => judge(request, budget, limit), signal);
        } finally {
          budget.release();
        }
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
        return { kind: error.reason === "unavailable" ? "unknown" : "refused", why: error.message };
      }
    },
  };
}

type Recalled =
  | { readonly verdict: ImageVerdict }
  | {
      readonly verdict: undefined;
      readonly asking: {
        /** Policies that have not accepted it. */
        readonly open: readonly JudgingPolicy[];
        readonly root: string | undefined;
        readonly keyOf: (policy: JudgingPolicy) => string;
        /** Of a refusal. */
        readonly name: string;
      };
    };

/** Without asking what a tag means. */
function knownDigest({ image, pinned }: VerifyRequest): string | undefined {
  return image.reference.digest ?? pinned;
}

/** The one layer of a bundle's manifest that is the bundle; undefined where there is none. */
async function readBundle(
  repository: Repository,
  digest: string,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  try {
    const manifest = await repository.manifest(digest, signal);
    const layer = asArray(at(manifest, "layers")).find((each) =>
      (asText(at(each, "mediaType")) ?? "").startsWith(bundleType),
    );
    const blob = asText(at(layer, "digest")) ?? "";
    return isDigest(blob) ? await repository.blob(blob, mostBundleBytes, signal) : undefined;
  } catch (error) {
    // One that is listed and is not there, or is not what it is listed as, keeps nobody from another one.
    if (error instanceof RegistryError && error.reason !== "unavailable") return undefined;
    throw error;
  }
}

/** A verdict with certificates is about the root they lead to; one with keys alone is about none. */
function rootKey({ authorities }: JudgingPolicy, root: string | undefined): string {
  if (root === undefined || !needsTrustedRoot(authorities)) return "";
  return createHash("sha256").update(root).digest("hex");
}

/** What was found, for a time; the oldest goes first where there is too much. */
function createMemory<Value>(
  clock: Clock,
  forMs: number,
): { get(key: string): Value | undefined; set(key: string, value: Value): void } {
  const entries = new Map<string, { readonly value: Value; readonly until: number }>();
  return {
    get(key) {
      const entry = entries.get(key);
      if (entry === undefined) return undefined;
      if (clock.monotonic() < entry.until) return entry.value;
      entries.delete(key);
      return undefined;
    },
    set(key, value) {
      entries.delete(key);
      entries.set(key, { value, until: clock.monotonic() + forMs });
      const oldest = entries.keys().next().value;
      if (entries.size > mostRemembered && oldest !== undefined) entries.delete(oldest);
    },
  };
}
