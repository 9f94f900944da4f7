/** One private key, as its entry of the Secret has it. */
export interface KeyText {
  /** Of the Secret's data. */
  readonly entry: string;
  readonly text: string;
}

/** An entry of the Secret that cannot be used. `why` follows its name; nothing of it is quoted. */
export class KeyProblem extends Error {
  override name = "KeyProblem";
  readonly entry: string;
  readonly why: string;
  constructor(entry: string, why: string) {
    super(`entry "${entry}" ${why}`);
    this.entry = entry;
    this.why = why;
  }
}
