import type { SopsRules } from "./sops-metadata.ts";

/** Where a value stands: the keys that lead to it, and per level the comments before it. */
export interface SopsPlace {
  readonly path: readonly string[];
  readonly comments: readonly (readonly string[])[];
  readonly isComment: boolean;
}

/** Whether a value of this place is an encrypted one. Later rules win over earlier ones, as SOPS has it. */
export function isEncryptedAt(rules: SopsRules, { path, comments, isComment }: SopsPlace): boolean {
  let encrypted = true;
  const { unencryptedSuffix, encryptedSuffix } = rules;
  if (unencryptedSuffix !== "" && path.some((key) => key.endsWith(unencryptedSuffix))) encrypted = false;
  if (encryptedSuffix !== "") encrypted = path.some((key) => key.endsWith(encryptedSuffix));
  const { unencryptedRegex, encryptedRegex, unencryptedCommentRegex, encryptedCommentRegex } = rules;
  if (unencryptedRegex !== undefined && path.some((key) => unencryptedRegex.matcher(key).find())) encrypted = false;
  if (encryptedRegex !== undefined) encrypted = path.some((key) => encryptedRegex.matcher(key).find());
  if (unencryptedCommentRegex !== undefined) {
    if (comments.flat().some((comment) => unencryptedCommentRegex.matcher(comment).find())) encrypted = false;
  }
  if (encryptedCommentRegex !== undefined) {
    // A comment does not ask for its own encryption.
    const before = isComment ? comments.flat().slice(0, -1) : comments.flat();
    encrypted = before.some((comment) => encryptedCommentRegex.matcher(comment).find());
  }
  return encrypted;
}

/** Whether comments decide at all: without, nobody needs to collect them. */
export function asksForComments(rules: SopsRules): boolean {
  return rules.unencryptedCommentRegex !== undefined || rules.encryptedCommentRegex !== undefined;
}
