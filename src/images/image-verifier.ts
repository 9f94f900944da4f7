import { createHash } from "node:crypto";
import type { ComputePool } from "../compute/pool.ts";
import { ComputeError } from "../compute/compute-error.ts";
import type { JudgingPolicy } from "../domain/images/governing.ts";
import { needsTrustedRoot, type GovernedImage } from "../domain/images/plan-images.ts";
import { deadline, DeadlineExceeded } from "../lib/abort.ts";
import type { Clock } from "../lib/clock.ts";
import { createFairLimiter } from "../lib/fair-limiter.ts";
import { asArray, asText, at } from "../lib/json.ts";
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
const places = { places: 48, placesPerGroup: 4, burst: 100, perSecond: 50 };

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
  const accepted = createMemory<true>(clock, acceptedForMs);
  const refused = createMemory<ImageVerdict>(clock, refusedForMs);

  const judge = async (request: VerifyRequest, signal: AbortSignal): Promise<ImageVerdict> => {
    const { image, pinned } = request;
    const { reference, policies } = image;
    const repository = openRepository(reference, options, request.credential);
    const digest = reference.digest ?? pinned ?? (await repository.resolve(reference.tag ?? "latest", signal));
    if (!isDigest(digest)) return { kind: "refused", why: `its digest is not of sha256` };
    const keyless = policies.some(({ authorities }) => needsTrustedRoot(authorities));
    const root = keyless ? await options.trustedRoot(signal) : undefined;
    const keyOf = (policy: JudgingPolicy): string => JSON.stringify([digest, policy.version, rootKey(policy, root)]);
    const open = policies.filter((policy) => accepted.get(keyOf(policy)) === undefined);
    if (open.length === 0) return { kind: "accepted", digest };
    const name = JSON.stringify([
      ...[request.queue, request.puller, reference.registry, reference.repository, digest],
      ...open.map((policy) => keyOf(policy)),
    ]);
    const known = refused.get(name);
    if (known !== undefined) return known;
    const { left, why } = await checkAll(repository, { digest, policies: open, root, queue: request.queue }, signal);
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
    },
    signal: AbortSignal,
  ): Promise<{ readonly left: readonly JudgingPolicy[]; readonly why: string }> => {
    let left = from.policies;
    let why = "it is not signed";
    let budget = mostBytesPerImage;
    const descriptors = await repository.referrers(from.digest, mostDescriptors, signal);
    const bundles = descriptors.filter(({ artifactType }) => artifactType.startsWith(bundleType));
    for (const { digest } of bundles.slice(0, mostReferrers)) {
      if (budget <= 0) return { left, why: `its bundles have more than ${mostBytesPerImage} bytes` };
      const bundle = await readBundle(repository, digest, Math.min(mostBundleBytes, budget), signal);
      if (bundle === undefined) continue;
      budget -= bundle.byteLength;
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

  return {
    async verify(request, signal) {
      using limit = deadline(clock, { timeoutMs: imageTimeoutMs, what: "verifying", parent: signal });
      try {
        using _turn = await turns.acquire(request.queue, limit.signal);
        return await judge(request, limit.signal);
      } catch (error) {
        signal.throwIfAborted();
        if (limit.signal.aborted || error instanceof DeadlineExceeded)
          return { kind: "unknown", why: `registry "${request.image.reference.registry}" does not answer in time` };
        if (!(error instanceof RegistryError)) throw error;
        return { kind: error.reason === "unavailable" ? "unknown" : "refused", why: error.message };
      }
    },
  };
}

/** The one layer of a bundle's manifest that is the bundle; undefined where there is none. */
async function readBundle(
  repository: Repository,
  digest: string,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  try {
    const manifest = await repository.manifest(digest, signal);
    const layer = asArray(at(manifest, "layers")).find((each) =>
      (asText(at(each, "mediaType")) ?? "").startsWith(bundleType),
    );
    const blob = asText(at(layer, "digest")) ?? "";
    return isDigest(blob) ? await repository.blob(blob, maxBytes, signal) : undefined;
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
