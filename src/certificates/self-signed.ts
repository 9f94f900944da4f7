import type { KubeClient } from "../kube/client.ts";
import { isKubeError, KubeError } from "../kube/error.ts";
import { linkSignals } from "../lib/abort.ts";
import { type Clock, sleep } from "../lib/clock.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { CertificateMetrics, CertificateSource, MissingPrerequisite } from "./certificate-source.ts";
import { type OwnPair, type PairMaterial, readCertificate, readOwnPair } from "./pair.ts";
import {
  isDue,
  planUpkeep,
  type SecretView,
  type UpkeepStep,
  type UpkeepView,
  wantedTrust,
  type WriteKind,
} from "./plan-upkeep.ts";
import { createServingSecret, type StoredSecret } from "./serving-secret.ts";
import { trustedBy } from "./trust-set.ts";
import { configurationResource, createWebhookConfiguration } from "./webhook-configuration.ts";

/** Between two looks at Secret and configuration; they are read back at least every 30 s (spec 50 §7.1). */
const lookEveryMs = 10_000;
/** The same, until something is served. */
const startLookMs = 2_000;
const firstBackoffMs = 10_000;
const longestBackoffMs = 600_000;
/** More steps in one look mean that two replicas undo each other's. */
const mostSteps = 20;
const watchAgainMs = 10_000;

export interface SelfSignedOptions {
  /** Not guarded by the lease: every replica keeps the configuration right. */
  readonly client: KubeClient;
  /** Of the Secret. */
  readonly namespace: string;
  readonly secretName: string;
  readonly configurationName: string;
  /** DNS names of the certificate. */
  readonly names: readonly [string, ...string[]];
  readonly validityMs: number;
  /** Whether this replica may rotate. */
  readonly leads: () => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: CertificateMetrics;
}

/**
 * Keeps a certificate of our own: one pair in a Secret for all replicas, its authority in every caBundle of the
 * configuration, renewed at a third of its time (spec 50 §7.1). Failures are retried for ever; disposing stops wherever
 * it is, which leaves everything trusted that is served.
 */
export function keepSelfSigned(options: SelfSignedOptions): CertificateSource {
  return new SelfSigned(options);
}

type Problems = { readonly [Resource in "secret" | "configuration"]?: string };

class SelfSigned implements CertificateSource {
  readonly #options: SelfSignedOptions;
  readonly #secret: ReturnType<typeof createServingSecret>;
  readonly #configuration: ReturnType<typeof createWebhookConfiguration>;
  readonly #abort = new AbortController();
  readonly #listeners = new Set<() => void>();
  readonly #backoffs = new Map<WriteKind, { readonly until: number; readonly delayMs: number }>();
  readonly #superseded = new Set<string>();
  readonly #running: Promise<unknown>;
  #held: OwnPair | undefined;
  #pending: OwnPair | undefined;
  #trustedSince: ReadonlyMap<string, number> = new Map();
  #firstSeen: ReadonlyMap<string, number> = new Map();
  #previous: { readonly fingerprint: string; readonly since: number } | undefined;
  #problems: Problems = {};
  /** Ends the present wait, or the next one when there is none. */
  #waiting: { readonly abort: (reason: Error) => void } | undefined;
  #woken = false;

  constructor(options: SelfSignedOptions) {
    const { client, namespace, secretName: name, configurationName, clock } = options;
    this.#options = options;
    this.#secret = createServingSecret(client, { namespace, name });
    this.#configuration = createWebhookConfiguration(client, { name: configurationName, clock });
    this.#running = Promise.all([this.#supervise(() => this.#run()), this.#supervise(() => this.#watch())]);
  }

  current(): OwnPair | undefined {
    return this.#held;
  }

  subscribe(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  missing(): readonly MissingPrerequisite[] {
    const { secretName, namespace, configurationName } = this.#options;
    if (this.#held !== undefined && this.#trustedSince.has(this.#held.caFingerprint)) return [];
    const found: MissingPrerequisite[] = [];
    if (this.#problems.secret !== undefined)
      found.push({ resource: "secrets", reason: `"${namespace}/${secretName}": ${this.#problems.secret}` });
    found.push({
      resource: configurationResource,
      reason: `"${configurationName}": ${this.#problems.configuration ?? "the authority of the certificate is not in it yet"}`,
    });
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort(new Error("stopping"));
    await this.#running;
  }

  async #supervise(work: () => Promise<never>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!this.#abort.signal.aborted) this.#options.logger.error("no longer keeping the certificate", { error });
    }
  }

  async #run(): Promise<never> {
    for (;;) {
      this.#woken = false;
      await this.#look();
      this.#abort.signal.throwIfAborted();
      await this.#wait(this.missing().length > 0 ? startLookMs : lookEveryMs);
    }
  }

  /** @throws the reason, when stopped */
  async #wait(delayMs: number): Promise<void> {
    if (this.#woken) return;
    using waiting = linkSignals(this.#abort.signal);
    this.#waiting = waiting;
    await sleep(this.#options.clock, delayMs, waiting.signal).catch(() => undefined);
    this.#waiting = undefined;
    this.#abort.signal.throwIfAborted();
  }

  #wake(): void {
    this.#woken = true;
    this.#waiting?.abort(new Error("woken"));
  }

  /** Replicas take a new pair over as soon as it is written. */
  async #watch(): Promise<never> {
    const { clock } = this.#options;
    for (;;) {
      try {
        for await (const _change of this.#secret.changes(this.#abort.signal)) this.#wake();
      } catch {
        this.#abort.signal.throwIfAborted(); // Without a watch, the next look sees it.
      }
      await sleep(clock, watchAgainMs, this.#abort.signal);
    }
  }

  async #look(): Promise<void> {
    for (let count = 0; count < mostSteps; count++) {
      const read = await this.#read();
      const step = planUpkeep(read.view);
      if (read.view.bundles !== undefined) this.#firstSeen = wantedTrust(read.view, read.view.bundles).firstSeen;
      if (step.kind === "rest") return;
      try {
        await this.#do(step, read);
        this.#backoffs.delete(kindOf(step));
      } catch (error) {
        this.#abort.signal.throwIfAborted();
        // Another replica was first; what it wrote is read next.
        if (!isKubeError(error, "Conflict", "AlreadyExists")) this.#failed(kindOf(step), error);
      }
    }
  }

  #failed(kind: WriteKind, error: unknown): void {
    const { clock, logger, metrics } = this.#options;
    const before = this.#backoffs.get(kind);
    const delayMs = before === undefined ? firstBackoffMs : Math.min(longestBackoffMs, before.delayMs * 2);
    this.#backoffs.set(kind, { until: clock.monotonic() + delayMs, delayMs });
    const reason = error instanceof KubeError ? textOf(error) : error;
    metrics.renewalFailed();
    logger.error("cannot keep the webhook certificate; trying again", {
      step: kind,
      retryAfterMs: delayMs,
      error: reason,
    });
    if (kind === "unite") this.#problems = { ...this.#problems, configuration: String(reason) };
    if (kind === "restore") this.#problems = { ...this.#problems, secret: String(reason) };
  }

  async #read(): Promise<Read> {
    const { clock, leads, metrics, names } = this.#options;
    const { signal } = this.#abort;
    const [stored, bundles] = await Promise.all([
      this.#attempt("secret", () => this.#secret.read(signal)),
      this.#attempt("configuration", () => this.#configuration.read(signal)),
    ]);
    const now = clock.now();
    const monotonic = clock.monotonic();
    const secret = secretView(stored, { names, now });
    if (stored.kind === "read") metrics.read(secret.kind === "usable" ? "usable" : "error");
    if (bundles.kind === "read") this.#noteTrust(bundles.value, monotonic);
    this.#notePrevious(secret, monotonic);
    const refused = stored.kind === "failed" || bundles.kind === "failed";
    if (refused && leads() && this.#held !== undefined && isDue(this.#held, now)) this.#failedRead(monotonic);
    const view: UpkeepView = {
      now,
      monotonic,
      leads: leads(),
      secret,
      bundles: bundles.kind === "read" && (bundles.value ?? []).length > 0 ? bundles.value : undefined,
      held: this.#held,
      pending: this.#pending,
      trustedSince: this.#trustedSince,
      previousSince: this.#previous?.since,
      superseded: this.#superseded,
      firstSeen: this.#firstSeen,
      resting: new Set([...this.#backoffs].flatMap(([kind, { until }]) => (until > monotonic ? [kind] : []))),
    };
    return { view, stored: stored.kind === "read" ? stored.value : undefined };
  }

  /** A renewal that is due and cannot even begin has failed, too. */
  #failedRead(monotonic: number): void {
    if ((this.#backoffs.get("issue")?.until ?? -Infinity) <= monotonic)
      this.#failed("issue", new Error("Secret or configuration cannot be read"));
  }

  async #attempt<T>(resource: keyof Problems, read: () => Promise<T>): Promise<Attempted<T>> {
    try {
      const value = await read();
      const missing = resource === "configuration" && value === undefined ? "does not exist" : undefined;
      const { [resource]: _solved, ...others } = this.#problems;
      // What was said about a write stays until the write succeeds.
      if (missing !== undefined) this.#problems = { ...others, [resource]: missing };
      else if (!this.#backoffs.has(resource === "secret" ? "restore" : "unite")) this.#problems = others;
      return { kind: "read", value };
    } catch (error) {
      this.#abort.signal.throwIfAborted();
      if (!(error instanceof KubeError)) throw error;
      this.#problems = { ...this.#problems, [resource]: textOf(error) };
      return { kind: "failed" };
    }
  }

  #noteTrust(bundles: readonly string[] | undefined, monotonic: number): void {
    const [first = new Set<string>(), ...others] = (bundles ?? []).map(trustedBy);
    const everywhere = [...first].filter((id) => others.every((each) => each.has(id)));
    this.#trustedSince = new Map(everywhere.map((id) => [id, this.#trustedSince.get(id) ?? monotonic]));
  }

  #notePrevious(secret: SecretView, monotonic: number): void {
    if (secret.kind === "unknown") return;
    const fingerprint = secret.kind === "usable" ? secret.previous?.fingerprint : undefined;
    if (fingerprint === this.#previous?.fingerprint) return;
    this.#previous = fingerprint === undefined ? undefined : { fingerprint, since: monotonic };
  }

  async #do(step: Exclude<UpkeepStep, { readonly kind: "rest" }>, { view, stored }: Read): Promise<void> {
    const { signal } = this.#abort;
    const { logger } = this.#options;
    switch (step.kind) {
      case "restore": {
        const pair: PairMaterial = step.pair ?? (await this.#issue());
        await this.#secret.write({ ...pair, previousCaPem: undefined }, { over: stored, signal });
        logger.info("wrote the webhook certificate", { secret: this.#options.secretName });
        return;
      }
      case "issue":
        this.#pending = await this.#issue();
        logger.info("rotating the webhook certificate");
        return;
      case "forgetPending":
        this.#pending = undefined;
        this.#superseded.add(step.pair.caFingerprint);
        return;
      case "unite":
        await this.#configuration.write((bundles) => wantedTrust(view, bundles).bundle, signal);
        return;
      case "serve":
        this.#held = step.pair;
        logger.info("serving certificate", { notAfter: new Date(step.pair.notAfter).toISOString() });
        for (const listener of this.#listeners) listener();
        return;
      case "promote":
        if (!this.#options.leads()) return;
        await this.#secret.write({ ...step.pair, previousCaPem: step.previousCaPem }, { over: stored, signal });
        this.#pending = undefined;
        return;
      case "retire": {
        if (!this.#options.leads()) return;
        await this.#secret.write({ ...step.pair, previousCaPem: undefined }, { over: stored, signal });
        this.#superseded.add(step.previous.fingerprint);
        return;
      }
    }
  }

  async #issue(): Promise<OwnPair> {
    const { names, validityMs, clock } = this.#options;
    const now = clock.now();
    // The encoders cost 80 ms to load: only who issues pays for them.
    const { issuePair } = await import("./issue.ts");
    const read = readOwnPair(await issuePair({ names, validityMs, now }), { names, now });
    if (read.kind === "unusable") throw new Error(`the certificate just made is unusable: ${read.problem}`);
    return read.pair;
  }
}

interface Read {
  readonly view: UpkeepView;
  readonly stored: StoredSecret | undefined;
}

type Attempted<T> = { readonly kind: "read"; readonly value: T } | { readonly kind: "failed" };

function secretView(
  stored: Attempted<StoredSecret | undefined>,
  o: { readonly names: readonly string[]; readonly now: number },
): SecretView {
  if (stored.kind === "failed") return { kind: "unknown" };
  if (stored.value === undefined) return { kind: "absent" };
  const read = readOwnPair(stored.value, o);
  if (read.kind === "unusable") return { kind: "garbage" };
  // An authority that cannot be read was never served.
  const { previousCaPem: pem } = stored.value;
  const fingerprint = pem === undefined ? undefined : readCertificate(pem)?.fingerprint256;
  const previous = pem === undefined || fingerprint === undefined ? undefined : { pem, fingerprint };
  return { kind: "usable", pair: read.pair, previous };
}

function kindOf(step: UpkeepStep): WriteKind {
  return step.kind === "serve" || step.kind === "forgetPending" || step.kind === "rest" ? "issue" : step.kind;
}

/** Only refusals that cannot quote a Secret are told in the server's words. */
function textOf(error: KubeError): string {
  return error.reason === "Forbidden" || error.reason === "NotFound" ? error.message : error.reason;
}
