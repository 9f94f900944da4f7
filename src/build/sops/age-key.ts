import { armor, Decrypter } from "age-encryption";
import { KeyProblem, type KeyText } from "./key-text.ts";

/** All identities at once: which of them a message is for is not known before. */
export class AgeKeys {
  readonly #decrypter = new Decrypter();

  /** @throws {KeyProblem} */
  constructor(identities: readonly KeyText[]) {
    for (const { entry, text } of identities) {
      try {
        this.#decrypter.addIdentity(text);
      } catch {
        throw new KeyProblem(entry, "has a line that is no age identity (AGE-SECRET-KEY-1…)");
      }
    }
  }

  /** Throws what the library throws. */
  open(armored: string): Promise<Uint8Array> {
    return this.#decrypter.decrypt(armor.decode(armored));
  }
}
