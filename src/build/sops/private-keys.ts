import type { PrivateKey } from "openpgp";
import type { MasterKey } from "./sops-metadata.ts";

/** Private keys as their Secret has them; crosses to a worker, and lives as long as one build. */
export interface PrivateKeyTexts {
  /** Native age identities, one each. */
  readonly age: readonly string[];
  /** Armored OpenPGP private keys. */
  readonly pgp: readonly string[];
}

/** Why an entry of the Secret cannot be used. `message` follows the entry's name and quotes nothing of it. */
export class KeyProblem extends Error {
  override name = "KeyProblem";
}

/** The identities in one `*.agekey` entry. @throws {KeyProblem} */
export function ageIdentities(text: string): readonly string[] {
  const lines = text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
  for (const line of lines) {
    if (line.startsWith("AGE-PLUGIN-")) throw new KeyProblem("is for a plugin, and programs are not run here");
    if (!/^AGE-SECRET-KEY-(?:PQ-)?1[02-9AC-HJ-NP-Z]{20,4000}$/.test(line))
      throw new KeyProblem("has a line that is no age identity (AGE-SECRET-KEY-1…)");
  }
  return lines;
}

/** A message to one key is some hundred bytes; one that says more of itself is not read. */
const mostMessageBytes = 64 * 1024;

/** Opens messages to age and OpenPGP keys. Both libraries are loaded when a document needs them. */
export class PrivateKeys {
  readonly #texts: PrivateKeyTexts;
  #pgp: Promise<readonly PrivateKey[]> | undefined;

  constructor(texts: PrivateKeyTexts) {
    this.#texts = texts;
  }

  /** Checks that all keys can be read. @throws {KeyProblem} */
  async check(): Promise<void> {
    if (this.#texts.age.length > 0) await this.#decrypter();
    if (this.#texts.pgp.length > 0) await this.#pgpKeys();
  }

  /** What the message holds; undefined: it is for none of the keys, or damaged. */
  async open(key: Extract<MasterKey, { kind: "age" | "pgp" }>): Promise<Uint8Array | undefined> {
    if (key.encrypted.length > mostMessageBytes) return undefined;
    try {
      return key.kind === "age" ? await this.#openAge(key.encrypted) : await this.#openPgp(key.encrypted);
    } catch {
      // The libraries do not tell a wrong key from a damaged message in a way to rely on.
      return undefined;
    }
  }

  async #decrypter() {
    const { Decrypter } = await import("age-encryption");
    const decrypter = new Decrypter();
    for (const identity of this.#texts.age) {
      try {
        decrypter.addIdentity(identity);
      } catch {
        throw new KeyProblem("has a line that is no age identity (AGE-SECRET-KEY-1…)");
      }
    }
    return decrypter;
  }

  async #openAge(armored: string): Promise<Uint8Array | undefined> {
    if (this.#texts.age.length === 0) return undefined;
    const { armor } = await import("age-encryption");
    return await (await this.#decrypter()).decrypt(armor.decode(armored));
  }

  #pgpKeys(): Promise<readonly PrivateKey[]> {
    this.#pgp ??= (async () => {
      const { readPrivateKeys } = await import("openpgp");
      const found: PrivateKey[] = [];
      for (const armoredKeys of this.#texts.pgp) {
        const keys = await readPrivateKeys({ armoredKeys }).catch(() => undefined);
        if (keys === undefined) throw new KeyProblem("is no armored OpenPGP private key");
        if (keys.some((key) => !key.isDecrypted())) throw new KeyProblem("is protected by a passphrase");
        found.push(...keys);
      }
      return found;
    })();
    return this.#pgp;
  }

  async #openPgp(armoredMessage: string): Promise<Uint8Array | undefined> {
    if (this.#texts.pgp.length === 0) return undefined;
    const { decrypt, readMessage } = await import("openpgp");
    const config = { maxDecompressedMessageSize: mostMessageBytes };
    const message = await readMessage({ armoredMessage, config });
    const { data } = await decrypt({
      message,
      decryptionKeys: [...(await this.#pgpKeys())],
      format: "binary",
      config,
    });
    return data;
  }
}
