import type { SopsProblemClass } from "./sops/sops-problem.ts";

/**
 * A document that cannot be decrypted; `path`: its file, or the entry of a Secret it is in. `message` is for the log: it
 * may name recipients. Status tells path and class alone (spec 50 §3.3).
 */
export class DecryptionError extends Error {
  override name = "DecryptionError";
  readonly path: string;
  readonly class: SopsProblemClass;
  constructor(path: string, problemClass: SopsProblemClass, message: string) {
    super(message);
    this.path = path;
    this.class = problemClass;
  }
}
