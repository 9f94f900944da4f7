import { posix } from "node:path";
import type { PrivateKeys } from "./private-keys.ts";
import { recoverDataKey, type OpenedShares, type WantedShares } from "./data-key.ts";
import { parseDotenv, renderDotenv } from "./sops-dotenv.ts";
import { parseIni, renderIni } from "./sops-ini.ts";
import { isSopsMetadata, parseMetadata } from "./sops-metadata.ts";
import { malformed, SopsProblem } from "./sops-problem.ts";
import { decryptTree, type Decrypted, type SopsMapping } from "./sops-tree.ts";
import { plainText } from "./sops-value.ts";
import { parseYamlDocuments, type YamlDocument } from "./sops-yaml.ts";
import { renderDecrypted } from "./sops-yaml-print.ts";

/** `binary`: a whole file as one value, in an envelope of JSON. */
export type SopsFormat = "yaml" | "json" | "dotenv" | "ini" | "binary";

/** Longest encrypted document (spec 50 §3.1). */
const mostBytes = 5 * 1024 * 1024;

/** What a file of this name is (spec 50 §3.1). */
export function formatOf(name: string): SopsFormat {
  switch (posix.extname(name)) {
    case ".yaml":
    case ".yml":
      return "yaml";
    case ".json":
      return "json";
    case ".env":
      return "dotenv";
    case ".ini":
      return "ini";
    default:
      // `posix` takes a name like `.env` for one without an ending.
      return posix.basename(name) === ".env" ? "dotenv" : "binary";
  }
}

export type DecryptedDocument =
  | { readonly kind: "plain" }
  | { readonly kind: "decrypted"; readonly bytes: Uint8Array }
  | { readonly kind: "wanted"; readonly wanted: WantedShares };

/**
 * Decrypts a document of SOPS; what is none is `plain`, and to be left as it is.
 *
 * @throws {SopsProblem}
 */
export async function decryptDocument(
  bytes: Uint8Array,
  o: { readonly format: SopsFormat; readonly keys: PrivateKeys; readonly opened: OpenedShares },
): Promise<DecryptedDocument> {
  const found = findDocument(bytes, o.format);
  if (found === undefined) return { kind: "plain" };
  if (bytes.byteLength > mostBytes) throw malformed(`it has ${bytes.byteLength} bytes, at most ${mostBytes} allowed`);
  const metadata = parseMetadata(found.metadata);
  const key = await recoverDataKey(metadata, o);
  if (key.kind === "wanted") return key;
  return { kind: "decrypted", bytes: found.render(decryptTree(found.branches, metadata, key.key)) };
}

interface Found {
  readonly metadata: unknown;
  readonly branches: readonly SopsMapping[];
  readonly render: (decrypted: Decrypted) => Uint8Array;
}

function findDocument(bytes: Uint8Array, format: SopsFormat): Found | undefined {
  // A look that costs nothing: most files say nothing of the kind.
  const held = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!held.includes("sops") || !(held.includes("lastmodified") || held.includes("mac"))) return undefined;
  const text = held.toString("utf8").replace(/^\ufeff/, "");
  switch (format) {
    case "dotenv":
      return findFlat(text, { parse: parseDotenv, render: renderDotenv });
    case "ini":
      return findFlat(text, { parse: parseIni, render: renderIni });
    case "yaml":
    case "json":
    case "binary":
      return findTree(text, format);
  }
}

function findFlat(
  text: string,
  as: { readonly parse: typeof parseDotenv; readonly render: typeof renderDotenv },
): Found | undefined {
  const document = orNothing(() => as.parse(text));
  if (document === undefined || !isSopsMetadata(document.metadata)) return undefined;
  return {
    metadata: document.metadata,
    branches: [document.branch],
    render: (decrypted) => as.render(document, decrypted),
  };
}

function findTree(text: string, format: "yaml" | "json" | "binary"): Found | undefined {
  const looksEncrypted = /^["']?sops["']?[ \t]*:|["']sops["']\s*:/m.test(text);
  if (!looksEncrypted) return undefined;
  let documents: readonly YamlDocument[];
  try {
    documents = parseYamlDocuments(text);
  } catch (error) {
    // With what SOPS alone writes in it, it is a document of SOPS that was damaged.
    if (error instanceof SopsProblem && !text.includes("ENC[AES256_GCM,")) return undefined;
    throw error;
  }
  const [first] = documents;
  if (!documents.some(({ metadata }) => isSopsMetadata(metadata?.value))) return undefined;
  if (first?.metadata === undefined || !isSopsMetadata(first.metadata.value))
    throw malformed("its first document is not encrypted, and another one is");
  return {
    metadata: first.metadata.value,
    branches: documents.map(({ branch }) => branch),
    render: (decrypted) =>
      format === "binary"
        ? wholeFile(first.branch, decrypted)
        : Buffer.from(renderDecrypted(text, documents, { decrypted, format }), "utf8"),
  };
}

function wholeFile({ items }: SopsMapping, decrypted: Decrypted): Uint8Array {
  for (const item of items) {
    if (item.kind !== "member" || item.key !== "data" || item.node.kind !== "scalar") continue;
    const value = decrypted.get(item.node) ?? item.node.value;
    if (value !== undefined) return plainText(value);
  }
  throw malformed('the envelope of a whole file has no "data"');
}

function orNothing<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    if (error instanceof SopsProblem) return undefined;
    throw error;
  }
}
