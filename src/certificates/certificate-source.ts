import type { ServingPair } from "./pair.ts";

/** Something the certificate cannot do without. */
export interface MissingPrerequisite {
  /** `<plural>.<group>`, or a path. */
  readonly resource: string;
  readonly reason: string;
}

/** Where the served certificate comes from. */
export interface CertificateSource extends AsyncDisposable {
  /** The pair to serve; undefined until there is one the API server trusts, as far as that can be known. */
  current(): ServingPair | undefined;
  /** Called after each change of {@link CertificateSource.current}. */
  subscribe(listener: () => void): Disposable;
  /** What keeps it from being served and trusted; empty while all is well. */
  missing(): readonly MissingPrerequisite[];
}

/** Counters and gauges of certificates (spec 60 §6). */
export interface CertificateMetrics {
  /** A renewal attempt of a self-signed certificate failed. */
  renewalFailed(): void;
  /** Files or Secret were read. */
  read(outcome: "usable" | "error"): void;
}
