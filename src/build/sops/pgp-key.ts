import { decrypt, readMessage, readPrivateKeys, type PrivateKey } from "openpgp";
import { KeyProblem, type KeyText } from "./key-text.ts";

export class PgpKeys {
  readonly #keys: readonly PrivateKey[];

  private constructor(keys: readonly PrivateKey[]) {
    this.#keys = keys;
  }

  /** @throws {KeyProblem} */
  static async read(texts: readonly KeyText[]): Promise<PgpKeys> {
    const found: PrivateKey[] = [];
    for (const { entry, text: armoredKeys } of texts) {
      const keys = await readPrivateKeys({ armoredKeys }).catch(() => undefined);
      if (keys === undefined) throw new KeyProblem(entry, "is no armored OpenPGP private key");
      if (keys.some((key) => !key.isDecrypted())) throw new KeyProblem(entry, "is protected by a passphrase");
      found.push(...keys);
    }
    return new PgpKeys(found);
  }

  /** What it says is at most `mostBytes` long. Throws what the library throws. */
  async open(armoredMessage: string, mostBytes: number): Promise<Uint8Array | undefined> {
    const config = { maxDecompressedMessageSize: mostBytes };
    const message = await readMessage({ armoredMessage, config });
    const opened: { readonly data: unknown } = await decrypt({
      message,
      decryptionKeys: [...this.#keys],
      format: "binary",
      config,
    });
    return opened.data instanceof Uint8Array ? opened.data : undefined;
  }
}
