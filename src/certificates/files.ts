import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, sleep } from "../lib/clock.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { CertificateMetrics, CertificateSource } from "./certificate-source.ts";
import { readServingPair, type ServingPair } from "./pair.ts";

/** Spec 50 §7.1: polled, as file events of mounted Secrets get lost. */
const pollMs = 10_000;
/** Files that are missing come with an install: they are looked for more often. */
const missingPollMs = 2_000;

/**
 * Serves `tls.crt` and `tls.key` of a folder, which another program keeps. A pair that is unusable, or of which one half
 * was written later, is left alone and the one before it kept.
 */
export function watchCertificateFiles(options: {
  readonly dir: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: CertificateMetrics;
}): CertificateSource {
  const { dir, clock, logger, metrics } = options;
  const abort = new AbortController();
  const listeners = new Set<() => void>();
  let pair: ServingPair | undefined;
  let problem: string | undefined;
  const look = async (): Promise<void> => {
    const read = await readPair(dir, clock.now());
    metrics.read(read.kind === "usable" ? "usable" : "error");
    if (read.kind === "unusable") {
      if (problem !== read.problem) logger.error("cannot use the certificate files", { dir, error: read.problem });
      problem = read.problem;
      return;
    }
    problem = undefined;
    if (read.pair.fingerprint === pair?.fingerprint && read.pair.keyPem === pair.keyPem) return;
    pair = read.pair;
    logger.info("serving certificate", { dir, notAfter: new Date(pair.notAfter).toISOString() });
    for (const listener of listeners) listener();
  };
  const run = async (): Promise<void> => {
    for (;;) {
      await look();
      await sleep(clock, pair === undefined ? missingPollMs : pollMs, abort.signal);
    }
  };
  const running = run().catch((error: unknown) => {
    if (!abort.signal.aborted) logger.error("no longer watching the certificate files", { error });
  });
  return {
    current: () => pair,
    subscribe: (listener) => {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    missing: () => (pair === undefined ? [{ resource: dir, reason: problem ?? "not read yet" }] : []),
    async [Symbol.asyncDispose]() {
      abort.abort(new Error("stopping"));
      await running;
    },
  };
}

async function readPair(dir: string, now: number): Promise<ReturnType<typeof readServingPair>> {
  try {
    const [certPem, keyPem] = await Promise.all(
      ["tls.crt", "tls.key"].map((name) => readFile(join(dir, name), "utf8")),
    );
    return readServingPair({ certPem: certPem ?? "", keyPem: keyPem ?? "" }, now);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown";
    return { kind: "unusable", problem: `tls.crt or tls.key cannot be read (${code})` };
  }
}
