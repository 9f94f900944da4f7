import type { PrivateKeyTexts } from "./sops/private-keys.ts";
import { PrivateKeys } from "./sops/private-keys.ts";
import { DecryptionError } from "./decryption-error.ts";
import { decryptDocument } from "./sops/decrypt-document.ts";
import type { SopsFormat } from "./sops/sops-format.ts";
import type { OpenedShares, WantedShares } from "./sops/data-key.ts";
import { SopsProblem } from "./sops/sops-problem.ts";

/** What a build decrypts with: plain data, because it crosses to a worker. */
export interface DecryptionInput {
  readonly keys: PrivateKeyTexts;
  /** What services opened for this build. */
  readonly opened: OpenedShares;
}

/** A document whose key only services have. */
export interface WantedDocument extends WantedShares {
  readonly path: string;
}

/** Decrypts the documents of one build; in a worker, but for what waits for services. */
export class Decryptor {
  readonly #keys: PrivateKeys;
  readonly #opened: OpenedShares;
  /** Documents that were left encrypted, for want of what only services have. */
  readonly wanted: WantedDocument[] = [];
  /** Some document was encrypted. */
  used = false;

  constructor({ keys, opened }: DecryptionInput) {
    this.#keys = new PrivateKeys(keys);
    this.#opened = opened;
  }

  /** @throws {KeyProblem} */
  check(): Promise<void> {
    return this.#keys.check();
  }

  /**
   * The document in the clear; undefined: it is not encrypted, or it is added to `wanted`.
   *
   * @throws {DecryptionError}
   */
  async decrypt(
    path: string,
    bytes: Uint8Array,
    formats: { readonly input: SopsFormat; readonly output: SopsFormat },
  ): Promise<Uint8Array | undefined> {
    try {
      const found = await decryptDocument(bytes, { ...formats, keys: this.#keys, opened: this.#opened });
      if (found.kind === "plain") return undefined;
      this.used = true;
      if (found.kind === "decrypted") return found.bytes;
      this.wanted.push({ path, ...found.wanted });
      return undefined;
    } catch (error) {
      if (error instanceof SopsProblem) throw new DecryptionError(path, error.class, error.message);
      throw error;
    }
  }
}
