import { RE2JS } from "re2js";

const longest = 4_096;

/** Why a text is no regular expression of RE2, the syntax Kubernetes and Sigstore use; undefined when it is one. */
export function regularExpressionProblem(text: string): string | undefined {
  if (text.length > longest) return `is longer than ${longest} characters`;
  try {
    RE2JS.compile(text);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message.replace(/^error parsing regexp: /, "") : "cannot be read";
  }
}

/** Whether the expression can only match a text from its beginning to its end, as far as its first and last character say. */
export function isAnchored(text: string): boolean {
  return text.startsWith("^") && /(?:^|[^\\])(?:\\\\)*\$$/.test(text);
}
