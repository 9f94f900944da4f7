import { createHash, timingSafeEqual } from "node:crypto";
import { isEncryptedAt } from "./sops-rules.ts";
import type { SopsMetadata } from "./sops-metadata.ts";
import { malformed, SopsProblem } from "./sops-problem.ts";
import { dataKeyBytes, decryptValue, macBytes, type SopsValue } from "./sops-value.ts";

/** A document as SOPS walks it: everything in the order in which it is written, comments among it. */
export type SopsNode = SopsScalar | SopsMapping | SopsSequence;

export interface SopsScalar {
  readonly kind: "scalar";
  /** As written; undefined: null, which is neither encrypted nor part of the MAC. */
  readonly value: SopsValue | undefined;
}
export interface SopsComment {
  readonly kind: "comment";
  /** Without what makes it a comment. */
  readonly text: string;
}
export interface SopsMember {
  readonly kind: "member";
  readonly key: string;
  readonly node: SopsNode;
}
export interface SopsMapping {
  readonly kind: "mapping";
  readonly items: readonly (SopsMember | SopsComment)[];
}
export interface SopsSequence {
  readonly kind: "sequence";
  readonly items: readonly (SopsNode | SopsComment)[];
}

/** Values in the clear by the leaf they belong to; others are as written. */
export type Decrypted = ReadonlyMap<SopsScalar | SopsComment, SopsValue>;

/** Values in one document (spec 50 §3.1). */
const mostValues = 10_000;
/** What SOPS puts before the values where the MAC covers the encrypted ones alone. */
const onlyEncryptedSalt = "8a3fd2ad54ce66527b1034f3d147be0b0b975b3bf44f72c6fdadec8176f27d69";

/**
 * Decrypts all values and checks the MAC over them.
 *
 * @throws {SopsProblem} `malformed`, `MAC mismatch`
 */
export function decryptTree(branches: readonly SopsMapping[], metadata: SopsMetadata, dataKey: Uint8Array): Decrypted {
  if (dataKey.byteLength !== dataKeyBytes) throw malformed(`the data key has not ${dataKeyBytes} bytes`);
  const walk = new Walk(metadata, dataKey);
  for (const branch of branches) walk.node(branch, { path: [], comments: [] });
  walk.check();
  return walk.decrypted;
}

interface Level {
  readonly path: readonly string[];
  readonly comments: readonly (readonly string[])[];
}

class Walk {
  readonly decrypted = new Map<SopsScalar | SopsComment, SopsValue>();
  readonly #hash = createHash("sha512");
  readonly #metadata: SopsMetadata;
  readonly #dataKey: Uint8Array;
  #values = 0;

  constructor(metadata: SopsMetadata, dataKey: Uint8Array) {
    this.#metadata = metadata;
    this.#dataKey = dataKey;
    if (metadata.macOnlyEncrypted) this.#hash.update(Buffer.from(onlyEncryptedSalt, "hex"));
  }

  node(node: SopsNode, { path, comments }: Level): void {
    if (node.kind === "scalar") {
      this.#scalar(node, { path, comments });
      return;
    }
    const active: string[] = [];
    const inside = [...comments, active];
    for (const item of node.items) {
      if (item.kind === "comment") {
        active.push(item.text);
        this.#comment(item, { path, comments: inside });
        continue;
      }
      if (item.kind === "member") this.node(item.node, { path: [...path, item.key], comments: inside });
      else this.node(item, { path, comments: inside });
      active.length = 0;
    }
  }

  check(): void {
    const { mac, lastModified } = this.#metadata;
    let expected: Uint8Array;
    try {
      expected = macBytes(decryptValue(mac, this.#dataKey, lastModified));
    } catch (cause) {
      throw new SopsProblem("MAC mismatch", "the MAC cannot be read with the data key", { cause });
    }
    const found = Buffer.from(this.#hash.digest("hex").toUpperCase(), "latin1");
    if (expected.byteLength !== found.byteLength || !timingSafeEqual(expected, found))
      throw new SopsProblem("MAC mismatch", "the MAC does not fit the values");
  }

  #scalar(leaf: SopsScalar, { path, comments }: Level): void {
    const { value } = leaf;
    if (value === undefined) return;
    if (++this.#values > mostValues) throw malformed(`there are more than ${mostValues} values`);
    const encrypted = isEncryptedAt(this.#metadata.rules, { path, comments, isComment: false });
    if (!encrypted) {
      if (!this.#metadata.macOnlyEncrypted) this.#hash.update(macBytes(value));
      return;
    }
    if (value.kind !== "text") throw malformed("a value that should be encrypted is not");
    const plain = decryptValue(Buffer.from(value.bytes).toString("utf8"), this.#dataKey, contextOf(path));
    this.decrypted.set(leaf, plain);
    this.#hash.update(macBytes(plain));
  }

  /** Not part of the MAC; one that does not open was never encrypted. */
  #comment(leaf: SopsComment, { path, comments }: Level): void {
    if (!leaf.text.startsWith("ENC[")) return;
    if (++this.#values > mostValues) throw malformed(`there are more than ${mostValues} values`);
    if (!isEncryptedAt(this.#metadata.rules, { path, comments, isComment: true })) return;
    try {
      this.decrypted.set(leaf, decryptValue(leaf.text, this.#dataKey, contextOf(path)));
    } catch (error) {
      if (!(error instanceof SopsProblem)) throw error;
    }
  }
}

function contextOf(path: readonly string[]): string {
  return `${path.join(":")}:`;
}
