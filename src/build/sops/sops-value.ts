import { createDecipheriv } from "node:crypto";
import { renderGoFloat } from "./go-number.ts";
import { malformed, SopsProblem } from "./sops-problem.ts";

/** A value of a document, encrypted or not. Text is bytes: what was encrypted need not be UTF-8. */
export type SopsValue =
  | { readonly kind: "text"; readonly bytes: Uint8Array }
  | { readonly kind: "int"; readonly text: string }
  | { readonly kind: "float"; readonly value: number }
  | { readonly kind: "bool"; readonly value: boolean }
  /** RFC 3339. */
  | { readonly kind: "time"; readonly text: string }
  | { readonly kind: "comment"; readonly bytes: Uint8Array };

/** Length of a data key: AES-256. */
export const dataKeyBytes = 32;
const tagBytes = 16;
const mostIvBytes = 64;
const envelope =
  /^ENC\[AES256_GCM,data:([A-Za-z0-9+/]+={0,2}),iv:([A-Za-z0-9+/]+={0,2}),tag:([A-Za-z0-9+/]+={0,2}),type:([a-z]+)\]$/;

export function textValue(text: string): SopsValue {
  return { kind: "text", bytes: Buffer.from(text, "utf8") };
}

/**
 * Opens one `ENC[AES256_GCM,…]`; an empty text stands for itself. `context` is authenticated with it.
 *
 * @throws {SopsProblem} `malformed`; `MAC mismatch`, when its own tag does not fit
 */
export function decryptValue(encrypted: string, dataKey: Uint8Array, context: string): SopsValue {
  if (encrypted === "") return textValue("");
  const match = envelope.exec(encrypted);
  if (match === null) throw malformed("an encrypted value has not the form ENC[AES256_GCM,…]");
  const [data, iv, tag] = [decoded(match[1]), decoded(match[2]), decoded(match[3])];
  // A shorter tag would be taken by the cipher, and easier to forge.
  if (tag.byteLength !== tagBytes || iv.byteLength > mostIvBytes)
    throw malformed("an encrypted value has a tag or a nonce of the wrong length");
  const decipher = createDecipheriv("aes-256-gcm", dataKey, iv, { authTagLength: tagBytes });
  decipher.setAuthTag(tag);
  decipher.setAAD(Buffer.from(context, "utf8"));
  let bytes: Buffer;
  try {
    bytes = Buffer.concat([decipher.update(data), decipher.final()]);
  } catch (cause) {
    throw new SopsProblem("MAC mismatch", "an encrypted value was changed, moved or made with another key", { cause });
  }
  return typedValue(bytes, match[4] ?? "");
}

function decoded(text = ""): Buffer {
  const bytes = Buffer.from(text, "base64");
  if (text.length % 4 !== 0) throw malformed("an encrypted value is no base64");
  return bytes;
}

function typedValue(bytes: Buffer, type: string): SopsValue {
  const text = bytes.toString("latin1");
  switch (type) {
    case "str":
    case "bytes":
      return { kind: "text", bytes };
    case "comment":
      return { kind: "comment", bytes };
    case "int":
      if (/^[-+]?\d{1,19}$/.test(text)) return { kind: "int", text: String(BigInt(text.replace("+", ""))) };
      break;
    case "float": {
      const value = Number(text);
      if (/^[-+]?[\d.]+(?:[eE][-+]?\d+)?$/.test(text) && Number.isFinite(value)) return { kind: "float", value };
      break;
    }
    case "bool":
      if (/^(?:1|[tT]|true|TRUE|True)$/.test(text)) return { kind: "bool", value: true };
      if (/^(?:0|[fF]|false|FALSE|False)$/.test(text)) return { kind: "bool", value: false };
      break;
    case "time":
      if (/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[-+]\d\d:\d\d)$/.test(text)) return { kind: "time", text };
      break;
    default:
      throw malformed("an encrypted value has a type that SOPS does not write");
  }
  throw malformed(`an encrypted value is no ${type}`);
}

/** What the MAC of the document covers of a value; nothing of a comment. */
export function macBytes(value: SopsValue): Uint8Array {
  switch (value.kind) {
    case "text":
      return value.bytes;
    case "int":
    case "time":
      return Buffer.from(value.text, "latin1");
    case "float":
      return Buffer.from(renderGoFloat(value.value, "f"), "latin1");
    case "bool":
      return Buffer.from(value.value ? "True" : "False", "latin1");
    case "comment":
      return new Uint8Array(0);
  }
}

/** The value where only text is known: in dotenv, INI and as a whole file. */
export function plainText(value: SopsValue): Uint8Array {
  switch (value.kind) {
    case "text":
    case "comment":
      return value.bytes;
    case "int":
    case "time":
      return Buffer.from(value.text, "latin1");
    case "float":
      return Buffer.from(renderGoFloat(value.value, "g"), "latin1");
    case "bool":
      return Buffer.from(String(value.value), "latin1");
  }
}
