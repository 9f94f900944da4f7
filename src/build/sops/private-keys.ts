import type { AgeKeys } from "./age-key.ts";
import { KeyProblem, type KeyText } from "./key-text.ts";
import type { PgpKeys } from "./pgp-key.ts";
import type { MasterKey } from "./sops-metadata.ts";

/** Private keys as their Secret has them; crosses to a worker, and lives as long as one build. */
export interface PrivateKeyTexts {
  /** Native age identities, one each. */
  readonly age: readonly KeyText[];
  /** Armored OpenPGP private keys. */
  readonly pgp: readonly KeyText[];
}

/** The identities in one `*.agekey` entry. @throws {KeyProblem} */
export function ageIdentities({ entry, text }: KeyText): readonly KeyText[] {
  const lines = text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
  for (const line of lines) {
    if (line.startsWith("AGE-PLUGIN-")) throw new KeyProblem(entry, "is for a plugin, and programs are not run here");
    if (!/^AGE-SECRET-KEY-(?:PQ-)?1[02-9AC-HJ-NP-Z]{20,4000}$/.test(line))
      throw new KeyProblem(entry, "has a line that is no age identity (AGE-SECRET-KEY-1…)");
  }
  return lines.map((line) => ({ entry, text: line }));
}

/** A message to one key is some hundred bytes; one that says more of itself is not read. */
const mostMessageBytes = 64 * 1024;

/** Opens messages to age and OpenPGP keys. The libraries are loaded when there are such keys. */
export class PrivateKeys {
  readonly #texts: PrivateKeyTexts;
  #age: Promise<AgeKeys | undefined> | undefined;
  #pgp: Promise<PgpKeys | undefined> | undefined;

  constructor(texts: PrivateKeyTexts) {
    this.#texts = texts;
  }

  /** Checks that all keys can be read. @throws {KeyProblem} */
  async check(): Promise<void> {
    await this.#ageKeys();
    await this.#pgpKeys();
  }

  /** What the message holds; undefined: it is for none of the keys, or damaged. */
  async open(key: Extract<MasterKey, { kind: "age" | "pgp" }>): Promise<Uint8Array | undefined> {
    if (key.encrypted.length > mostMessageBytes) return undefined;
    try {
      if (key.kind === "age") return await (await this.#ageKeys())?.open(key.encrypted);
      return await (await this.#pgpKeys())?.open(key.encrypted, mostMessageBytes);
    } catch {
      // The libraries do not tell a wrong key from a damaged message in a way to rely on.
      return undefined;
    }
  }

  #ageKeys(): Promise<AgeKeys | undefined> {
    const { age } = this.#texts;
    this.#age ??= (async () => (age.length === 0 ? undefined : new (await import("./age-key.ts")).AgeKeys(age)))();
    return this.#age;
  }

  #pgpKeys(): Promise<PgpKeys | undefined> {
    const { pgp } = this.#texts;
    this.#pgp ??= (async () => (pgp.length === 0 ? undefined : (await import("./pgp-key.ts")).PgpKeys.read(pgp)))();
    return this.#pgp;
  }
}
