import { unflatten } from "./flattened.ts";
import { malformed } from "./sops-problem.ts";
import type { Decrypted, SopsComment, SopsMapping, SopsMember } from "./sops-tree.ts";
import { plainText, textValue } from "./sops-value.ts";

const prefix = "sops_";

export interface FlatDocument {
  readonly branch: SopsMapping;
  /** Undefined: there is none. */
  readonly metadata: unknown;
}

/**
 * Lines `KEY=value`, line feeds in values written as `\n`, and comments. Lines of other form are refused, as SOPS does.
 *
 * @throws {SopsProblem} `malformed`
 */
export function parseDotenv(text: string): FlatDocument {
  const items: (SopsMember | SopsComment)[] = [];
  const metadata: [string, string][] = [];
  for (const line of text.split("\n")) {
    if (line === "") continue;
    if (line.startsWith("#")) {
      items.push({ kind: "comment", text: line.slice(1) });
      continue;
    }
    const equals = line.indexOf("=");
    if (equals < 0) throw malformed("a line is neither KEY=value nor a comment");
    const key = line.slice(0, equals);
    const value = line.slice(equals + 1).replaceAll("\\n", "\n");
    if (key.startsWith(prefix)) metadata.push([key.slice(prefix.length), value]);
    else items.push({ kind: "member", key, node: { kind: "scalar", value: textValue(value) } });
  }
  return {
    branch: { kind: "mapping", items },
    metadata: metadata.length === 0 ? undefined : unflatten(metadata),
  };
}

export function renderDotenv({ branch }: Pick<FlatDocument, "branch">, decrypted: Decrypted): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const item of branch.items) {
    if (item.kind === "comment") {
      const value = decrypted.get(item);
      parts.push(Buffer.from("#"), value === undefined ? Buffer.from(item.text) : plainText(value), Buffer.from("\n"));
      continue;
    }
    if (item.node.kind !== "scalar") continue;
    const value = decrypted.get(item.node) ?? item.node.value;
    const bytes = value === undefined ? new Uint8Array(0) : plainText(value);
    parts.push(Buffer.from(`${item.key}=`), oneLine(bytes), Buffer.from("\n"));
  }
  return Buffer.concat(parts);
}

/** Byte by byte: the value need not be UTF-8. */
function oneLine(bytes: Uint8Array): Uint8Array {
  return Buffer.from(Buffer.from(bytes).toString("latin1").replaceAll("\n", "\\n"), "latin1");
}
