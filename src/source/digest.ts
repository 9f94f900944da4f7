import { SourceError } from "./source-error.ts";

const hexLength = { sha256: 64, sha384: 96, sha512: 128 } as const;

/** A digest as sources publish it, in lower case. */
export interface Digest {
  readonly algorithm: keyof typeof hexLength;
  readonly hex: string;
  /** `<algorithm>:<hex>`. */
  readonly text: string;
}

/** @throws {SourceError} `Malformed`, when it is not sha256, sha384 or sha512 with all its digits */
export function parseDigest(text: string): Digest {
  const [algorithm, hex, ...rest] = text.toLowerCase().split(":");
  const known = algorithm === "sha256" || algorithm === "sha384" || algorithm === "sha512" ? algorithm : undefined;
  if (known === undefined || hex?.length !== hexLength[known] || !/^[0-9a-f]+$/.test(hex) || rest.length > 0)
    throw new SourceError("Malformed", `digest "${text.slice(0, 200)}" is not a sha256, sha384 or sha512 digest`);
  return { algorithm: known, hex, text: `${known}:${hex}` };
}
