import type { PrivateKeys } from "./private-keys.ts";
import { recoverDataKey, type OpenedShares, type WantedShares } from "./data-key.ts";
import { parseDotenv, renderDotenv } from "./sops-dotenv.ts";
import { parseIni, renderIni } from "./sops-ini.ts";
import { isSopsMetadata, parseMetadata } from "./sops-metadata.ts";
import type { SopsFormat } from "./sops-format.ts";
import { malformed, SopsProblem } from "./sops-problem.ts";
import { decryptTree, type Decrypted, type SopsMapping, type SopsNode } from "./sops-tree.ts";
import { plainText } from "./sops-value.ts";
import { parseYamlDocuments, type YamlDocument } from "./sops-yaml.ts";
import { renderDecrypted, renderJson } from "./sops-yaml-print.ts";

/** Longest encrypted document (spec 50 §3.1). */
const mostBytes = 5 * 1024 * 1024;

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
  o: {
    readonly input: SopsFormat;
    /** What is written; `input`, or another one where a name says so. */
    readonly output: SopsFormat;
    readonly keys: PrivateKeys;
    readonly opened: OpenedShares;
  },
): Promise<DecryptedDocument> {
  const found = findDocument(bytes, o);
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

interface Formats {
  readonly input: SopsFormat;
  readonly output: SopsFormat;
}

function findDocument(bytes: Uint8Array, { input, output }: Formats): Found | undefined {
  // A look that costs nothing: most files say nothing of the kind.
  const held = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!held.includes("sops") || !(held.includes("lastmodified") || held.includes("mac"))) return undefined;
  const text = held.toString("utf8").replace(/^\ufeff/, "");
  if (input === "dotenv") return findFlat(text, { parse: parseDotenv, output });
  if (input === "ini") return findFlat(text, { parse: parseIni, output });
  return findTree(text, output);
}

function findFlat(
  text: string,
  { parse, output }: { readonly parse: typeof parseDotenv; readonly output: SopsFormat },
): Found | undefined {
  const document = orNothing(() => parse(text));
  if (document === undefined || !isSopsMetadata(document.metadata)) return undefined;
  const { metadata, branch } = document;
  const render = output === "ini" || (output === "binary" && parse === parseIni) ? renderIni : renderDotenv;
  return {
    metadata,
    branches: [branch],
    render: (decrypted) =>
      output === "yaml" || output === "json"
        ? Buffer.from(renderPlain(branch, decrypted), "utf8")
        : render(document, decrypted),
  };
}

function findTree(text: string, output: SopsFormat): Found | undefined {
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
  const format = text.trimStart().startsWith("{") ? "json" : "yaml";
  const { branch } = first;
  return {
    metadata: first.metadata.value,
    branches: documents.map((each) => each.branch),
    render: (decrypted) => {
      if (output === "binary") return wholeFile(branch, decrypted);
      if (output === "dotenv") return renderDotenv({ branch }, decrypted);
      if (output === "ini") return renderIni({ branch }, decrypted);
      // JSON is YAML as it stands.
      const plain =
        output === "json" && format === "yaml"
          ? renderPlain(branch, decrypted)
          : renderDecrypted(text, documents, { decrypted, format });
      return Buffer.from(plain, "utf8");
    },
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

/** A document as JSON, where it was in another format. */
function renderPlain(branch: SopsMapping, decrypted: Decrypted): string {
  const render = (node: SopsNode): string => {
    switch (node.kind) {
      case "mapping": {
        const members = node.items.flatMap((item) =>
          item.kind === "comment" ? [] : [`${JSON.stringify(item.key)}: ${render(item.node)}`],
        );
        return `{${members.join(", ")}}`;
      }
      case "sequence":
        return `[${node.items.flatMap((item) => (item.kind === "comment" ? [] : [render(item)])).join(", ")}]`;
      case "scalar": {
        const value = decrypted.get(node) ?? node.value;
        return value === undefined ? "null" : renderJson(value);
      }
    }
  };
  return `${render(branch)}\n`;
}

function orNothing<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    if (error instanceof SopsProblem) return undefined;
    throw error;
  }
}
