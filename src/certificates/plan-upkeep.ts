import type { OwnPair } from "./pair.ts";
import { trustedBy, type TrustSet, uniteTrust } from "./trust-set.ts";

/** How long an authority must have been trusted before its certificate takes the place of one that works. */
export const settleMs = 30_000;
/** How long the authority of a replaced certificate stays trusted. */
export const previousStaysMs = 5 * 60_000;

/** What the Secret holds. `unknown`: it could not be read. */
export type SecretView =
  | { readonly kind: "unknown" | "absent" | "garbage" }
  | { readonly kind: "usable"; readonly pair: OwnPair; readonly previous: Authority | undefined };

export interface Authority {
  readonly pem: string;
  readonly fingerprint: string;
}

/** Steps that write; each has a backoff of its own. */
export type WriteKind = "restore" | "issue" | "unite" | "promote" | "retire";

export interface UpkeepView {
  /** Epoch milliseconds. */
  readonly now: number;
  /** Monotonic milliseconds; the `Since` values are, too. */
  readonly monotonic: number;
  readonly leads: boolean;
  readonly secret: SecretView;
  /** Decoded caBundle of each entry; undefined: the configuration is missing or could not be read. */
  readonly bundles: readonly string[] | undefined;
  /** The pair that is served. */
  readonly held: OwnPair | undefined;
  /** A pair that nobody serves yet; only the leader has one. */
  readonly pending: OwnPair | undefined;
  /** Authorities that every entry holds, by fingerprint, and since when this process has seen them without a gap. */
  readonly trustedSince: ReadonlyMap<string, number>;
  /** Since when this process knows of the previous authority in the Secret. */
  readonly previousSince: number | undefined;
  /** Authorities this process has put out of service, by fingerprint. */
  readonly superseded: ReadonlySet<string>;
  readonly firstSeen: ReadonlyMap<string, number>;
  /** Steps that failed a moment ago. */
  readonly resting: ReadonlySet<WriteKind>;
}

/**
 * What comes next in keeping the certificate (spec 50 §7.1). A rotation is `issue`, `unite` until the new authority has
 * been trusted for 30 s, `promote` (all replicas then `serve`), and 5 minutes later `retire`; whoever leads goes on from
 * what Secret and configuration say, and a stop between any two steps leaves both authorities trusted.
 */
export type UpkeepStep =
  /** Write the Secret: the pair that is served, or a new one. */
  | { readonly kind: "restore"; readonly pair: OwnPair | undefined }
  /** Make the pair of the next rotation, in memory. */
  | { readonly kind: "issue" }
  /** Nobody will serve it any more. */
  | { readonly kind: "forgetPending"; readonly pair: OwnPair }
  /** Write `bundle` to every entry. */
  | { readonly kind: "unite"; readonly trust: TrustSet }
  | { readonly kind: "serve"; readonly pair: OwnPair }
  /** Write the pending pair to the Secret. */
  | { readonly kind: "promote"; readonly pair: OwnPair; readonly previousCaPem: string }
  /** Drop the previous authority from the Secret, as it is in no entry any more. */
  | { readonly kind: "retire"; readonly pair: OwnPair; readonly previous: Authority }
  | { readonly kind: "rest" };

/** Whether a third of the pair's time is over. */
export function isDue({ notBefore, notAfter }: OwnPair, now: number): boolean {
  return now - notBefore >= (notAfter - notBefore) / 3;
}

export function planUpkeep(view: UpkeepView): UpkeepStep {
  const { secret, resting } = view;
  const held = usableStill(view.held, view.now);
  if ((secret.kind === "absent" || secret.kind === "garbage") && !resting.has("restore"))
    return { kind: "restore", pair: held };
  return uniteStep(view) ?? serveStep(view) ?? rotationStep(view) ?? { kind: "rest" };
}

/** What every entry should hold, by what this process knows. */
export function wantedTrust(view: UpkeepView, bundles: readonly string[]): TrustSet {
  const { secret, held, pending, now } = view;
  const previous = secret.kind === "usable" ? secret.previous : undefined;
  const over = previous !== undefined && isPreviousOver(view);
  const own = [
    secret.kind === "usable" ? secret.pair.caPem : undefined,
    over ? undefined : previous?.pem,
    usableStill(held, now)?.caPem,
    pending?.caPem,
  ].filter((pem) => pem !== undefined);
  // Nothing of ours to say: whatever is there stays as it is.
  if (own.length === 0) return { bundle: "", firstSeen: view.firstSeen };
  const superseded = new Set([...view.superseded, ...(over ? [previous.fingerprint] : [])]);
  return uniteTrust({ present: bundles, own, superseded, now, firstSeen: view.firstSeen });
}

/** Only the leader's word counts, or a replica that came later would end the time early. */
function isPreviousOver({ leads, previousSince, monotonic }: UpkeepView): boolean {
  return leads && previousSince !== undefined && monotonic - previousSince >= previousStaysMs;
}

function uniteStep(view: UpkeepView): UpkeepStep | undefined {
  const { bundles, resting } = view;
  if (bundles === undefined || resting.has("unite")) return undefined;
  const trust = wantedTrust(view, bundles);
  if (trust.bundle === "" || bundles.every((bundle) => bundle === trust.bundle)) return undefined;
  return { kind: "unite", trust };
}

function serveStep({ secret, trustedSince, now, monotonic, held }: UpkeepView): UpkeepStep | undefined {
  if (secret.kind !== "usable" || secret.pair.fingerprint === held?.fingerprint) return undefined;
  const since = trustedSince.get(secret.pair.caFingerprint);
  if (since === undefined) return undefined;
  const works = usableStill(held, now) !== undefined && trustedSince.has(held?.caFingerprint ?? "");
  return !works || monotonic - since >= settleMs ? { kind: "serve", pair: secret.pair } : undefined;
}

function rotationStep(view: UpkeepView): UpkeepStep | undefined {
  const { secret, pending, monotonic, resting, trustedSince, bundles = [] } = view;
  const forget = pending === undefined ? undefined : ({ kind: "forgetPending", pair: pending } as const);
  if (!view.leads || secret.kind !== "usable") return forget;
  const { pair, previous } = secret;
  if (previous !== undefined) {
    const gone = bundles.length > 0 && !bundles.some((bundle) => trustedBy(bundle).has(previous.fingerprint));
    return isPreviousOver(view) && gone && !resting.has("retire") ? { kind: "retire", pair, previous } : undefined;
  }
  if (!isDue(pair, view.now)) return forget;
  if (pending === undefined) return resting.has("issue") ? undefined : { kind: "issue" };
  const since = trustedSince.get(pending.caFingerprint);
  const settled = since !== undefined && monotonic - since >= settleMs;
  return settled && !resting.has("promote") ? { kind: "promote", pair: pending, previousCaPem: pair.caPem } : undefined;
}

function usableStill(pair: OwnPair | undefined, now: number): OwnPair | undefined {
  return pair !== undefined && pair.notAfter > now ? pair : undefined;
}
