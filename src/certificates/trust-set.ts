import { authorityName, readCertificate } from "./pair.ts";

/** A block of a bundle; blocks of one identity are the same. */
interface Block {
  /** Fingerprint of the certificate, or the text itself when it is none that can be read. */
  readonly id: string;
  readonly text: string;
  readonly certificate: { readonly notAfter: number; readonly isOurs: boolean } | undefined;
}

/** Blocks with our name that nobody answers for any more go after this time (spec 50 §7.1). */
export const strangersStayMs = 24 * 3_600_000;

export interface TrustOptions {
  /** The bundles of all entries as they are now, decoded. */
  readonly present: readonly string[];
  /** PEM of the authorities that are served or about to be. */
  readonly own: readonly string[];
  /** Fingerprints of authorities that were ours and are not needed any more. */
  readonly superseded: ReadonlySet<string>;
  /** Epoch milliseconds. */
  readonly now: number;
  /** When blocks with our name were first seen here, by fingerprint, epoch milliseconds; those of `next` are the newer. */
  readonly firstSeen: ReadonlyMap<string, number>;
}

export interface TrustSet {
  /** What every entry must hold, never empty. */
  readonly bundle: string;
  readonly firstSeen: ReadonlyMap<string, number>;
}

/**
 * (present − expired − superseded − abandoned) ∪ own, each block once. Whatever cannot be read is kept, at the end, where
 * it cannot hide what follows it.
 */
export function uniteTrust({ present, own, superseded, now, firstSeen }: TrustOptions): TrustSet {
  const ownBlocks = own.flatMap(blocksOf);
  const ownIds = new Set(ownBlocks.map(({ id }) => id));
  const seen = new Map<string, number>();
  const kept = new Map<string, Block>();
  for (const block of [...present.flatMap(blocksOf), ...ownBlocks]) {
    const { id, certificate } = block;
    if (kept.has(id)) continue;
    if (!ownIds.has(id) && certificate !== undefined) {
      if (certificate.notAfter <= now || superseded.has(id)) continue;
      if (certificate.isOurs) {
        const since = firstSeen.get(id) ?? now;
        seen.set(id, since);
        if (now - since >= strangersStayMs) continue;
      }
    }
    kept.set(id, block);
  }
  const blocks = [...kept.values()];
  const ordered = [
    ...blocks.filter(({ certificate }) => certificate !== undefined),
    ...blocks.filter(({ certificate }) => certificate === undefined),
  ];
  return { bundle: ordered.map(({ text }) => `${text}\n`).join(""), firstSeen: seen };
}

/** Fingerprints of the certificates in a bundle. */
export function trustedBy(bundle: string): ReadonlySet<string> {
  return new Set(blocksOf(bundle).flatMap(({ id, certificate }) => (certificate === undefined ? [] : [id])));
}

/** A block ends before the next one begins, even when its own end is missing. */
const pemBlock = /-----BEGIN [^\n]*?-----(?:(?!-----BEGIN )[^])*?-----END [^\n]*?-----/g;

function blocksOf(bundle: string): readonly Block[] {
  const blocks: Block[] = [];
  const other = (text: string): void => {
    const trimmed = text.trim();
    if (trimmed !== "") blocks.push({ id: trimmed, text: trimmed, certificate: undefined });
  };
  let end = 0;
  for (const match of bundle.matchAll(pemBlock)) {
    other(bundle.slice(end, match.index));
    end = match.index + match[0].length;
    blocks.push(blockOf(match[0]));
  }
  other(bundle.slice(end));
  return blocks;
}

function blockOf(text: string): Block {
  const certificate = text.startsWith("-----BEGIN CERTIFICATE-----") ? readCertificate(text) : undefined;
  if (certificate === undefined) return { id: text, text, certificate: undefined };
  return {
    id: certificate.fingerprint256,
    text,
    certificate: {
      notAfter: certificate.validToDate.getTime(),
      isOurs: certificate.subject === `CN=${authorityName}`,
    },
  };
}
