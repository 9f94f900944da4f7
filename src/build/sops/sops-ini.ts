import { unflatten } from "./flattened.ts";
import type { FlatDocument } from "./sops-dotenv.ts";
import { malformed } from "./sops-problem.ts";
import type { Decrypted, SopsComment, SopsMapping, SopsMember } from "./sops-tree.ts";
import { plainText, textValue } from "./sops-value.ts";

const defaultSection = "DEFAULT";

interface Section {
  readonly name: string;
  readonly items: (SopsMember | SopsComment)[];
}

/**
 * An INI file as SOPS reads it: sections of `key = value`, texts in `"""` or backquotes over several lines, comments that
 * follow what they were written before.
 *
 * @throws {SopsProblem} `malformed`
 */
export function parseIni(text: string): FlatDocument {
  const sections: Section[] = [{ name: defaultSection, items: [] }];
  const lines = text.replace(/^\ufeff/, "").split("\n");
  let comments: string[] = [];
  for (let index = 0; index < lines.length; index++) {
    const line = (lines[index] ?? "").trim();
    const section = sections[sections.length - 1];
    if (line === "" || section === undefined) continue;
    if (line.startsWith("#") || line.startsWith(";")) {
      comments.push(line);
      continue;
    }
    if (line.startsWith("[")) {
      const close = line.lastIndexOf("]");
      if (close < 0) throw malformed("a section is not closed");
      sections.push({ name: line.slice(1, close), items: commentOf(comments) });
      comments = [];
      continue;
    }
    const { key, rest } = keyOf(line);
    const value = valueOf(rest, lines, index);
    index = value.index;
    if (value.comment !== "") comments.push(value.comment);
    section.items.push({ kind: "member", key, node: { kind: "scalar", value: textValue(value.text) } });
    section.items.push(...commentOf(comments));
    comments = [];
  }
  const metadata = sections.find(({ name }) => name === "sops");
  const items = sections
    .filter((section) => section !== metadata)
    .map(({ name, items: within }) => ({
      kind: "member" as const,
      key: name,
      node: { kind: "mapping" as const, items: within },
    }));
  return { branch: { kind: "mapping", items }, metadata: metadata === undefined ? undefined : metadataOf(metadata) };
}

function metadataOf({ items }: Section): unknown {
  return unflatten(
    items.flatMap((item) => {
      if (item.kind === "comment" || item.node.kind !== "scalar" || item.node.value?.kind !== "text") return [];
      return [[item.key, Buffer.from(item.node.value.bytes).toString("utf8").replaceAll("\\n", "\n")] as const];
    }),
  );
}

function commentOf(lines: readonly string[]): SopsComment[] {
  const text = lines.join("\n").trim();
  if (text === "") return [];
  return [{ kind: "comment", text: text.replace(text.startsWith(";") ? /^[; ]+/ : /^[# ]+/, "") }];
}

function keyOf(line: string): { readonly key: string; readonly rest: string } {
  const quote = line.startsWith('"""') ? '"""' : /^["`]/.exec(line)?.[0];
  const close = quote === undefined ? 0 : line.indexOf(quote, quote.length);
  const delimiter = close < 0 ? -1 : line.slice(close).search(/[=:]/);
  if (delimiter < 0 || (quote === undefined && delimiter === 0)) throw malformed("a line is no key with a value");
  const key = quote === undefined ? line.slice(0, delimiter) : line.slice(quote.length, close);
  return { key: key.trim(), rest: line.slice(close + delimiter + 1) };
}

interface Value {
  readonly text: string;
  readonly comment: string;
  /** Its last line. */
  readonly index: number;
}

function valueOf(rest: string, lines: readonly string[], index: number): Value {
  const line = rest.trim();
  const quote = line.length > 3 && line.startsWith('"""') ? '"""' : line.startsWith("`") ? "`" : undefined;
  if (quote !== undefined) return quotedValue(line.slice(quote.length), quote, { lines, index });
  if (line.endsWith("\\")) return continuedValue(line.slice(0, -1), lines, index);
  const hash = line.search(/[#;]/);
  const text = hash < 0 ? line : line.slice(0, hash).trim();
  return { text: withoutQuotes(text), comment: hash < 0 ? "" : line.slice(hash), index };
}

function quotedValue(
  first: string,
  quote: string,
  { lines, index }: { readonly lines: readonly string[]; readonly index: number },
): Value {
  const close = first.lastIndexOf(quote);
  if (close >= 0) return { text: first.slice(0, close), comment: "", index };
  // The end of the first line as it was written, without what was trimmed.
  const whole = (lines[index] ?? "").replace(/\r$/, "");
  const parts = [whole.slice(whole.lastIndexOf(first.slice(0, 1) === "" ? quote : first))];
  if (first === "") parts[0] = "";
  for (let next = index + 1; next < lines.length; next++) {
    const line = lines[next] ?? "";
    const end = line.lastIndexOf(quote);
    if (end < 0) parts.push(line);
    else return { text: [...parts, line.slice(0, end)].join("\n"), comment: "", index: next };
  }
  throw malformed("a quoted value is not closed");
}

function continuedValue(first: string, lines: readonly string[], index: number): Value {
  const parts = [first];
  for (let next = index + 1; next < lines.length; next++) {
    const line = (lines[next] ?? "").trim();
    parts.push(line.replace(/\\$/, ""));
    if (!line.endsWith("\\")) return { text: parts.join(""), comment: "", index: next };
  }
  return { text: parts.join(""), comment: "", index: lines.length };
}

function withoutQuotes(text: string): string {
  for (const quote of ["'", '"'])
    if (text.length >= 2 && text.startsWith(quote) && text.indexOf(quote, 1) === text.length - 1)
      return text.slice(1, -1);
  return text;
}

export function renderIni({ branch }: Pick<FlatDocument, "branch">, decrypted: Decrypted): Uint8Array {
  const sections = branch.items.flatMap((item) =>
    item.kind === "member" && item.node.kind === "mapping" ? [{ name: item.key, items: item.node }] : [],
  );
  const blocks = sections.flatMap(({ name, items }, index) => {
    const lines = renderSection(items, decrypted);
    const { comment } = lines;
    if (index === 0 && name === defaultSection) return lines.body.length === 0 ? [] : [[...comment, ...lines.body]];
    return [[...comment, `[${name}]`, ...lines.body]];
  });
  return Buffer.from(blocks.map((lines) => `${lines.join("\n")}\n`).join("\n"), "utf8");
}

function renderSection(
  { items }: SopsMapping,
  decrypted: Decrypted,
): { readonly comment: readonly string[]; readonly body: readonly string[] } {
  const [first] = items;
  const comment = first?.kind === "comment" ? renderComment(first, decrypted) : [];
  const keys = items.flatMap((item, index) => {
    if (item.kind === "comment" || item.node.kind !== "scalar") return [];
    const value = decrypted.get(item.node) ?? item.node.value;
    const text = value === undefined ? "" : Buffer.from(plainText(value)).toString("utf8");
    const after = items[index + 1];
    return [
      { key: quotedKey(item.key), text, comment: after?.kind === "comment" ? renderComment(after, decrypted) : [] },
    ];
  });
  const width = Math.max(0, ...keys.map(({ key }) => key.length));
  const body = keys.flatMap((each) => [...each.comment, `${each.key.padEnd(width)} = ${quotedText(each.text)}`]);
  return { comment, body };
}

function renderComment(comment: SopsComment, decrypted: Decrypted): readonly string[] {
  const value = decrypted.get(comment);
  const text = value === undefined ? comment.text : Buffer.from(plainText(value)).toString("utf8");
  return text.split("\n").map((line) => {
    if (!/^[#;]/.test(line)) return `; ${line.trim()}`;
    return `${line.slice(0, 1)} ${line.slice(1).trim()}`;
  });
}

function quotedKey(key: string): string {
  if (/["=:]/.test(key)) return `\`${key}\``;
  return key.includes("`") ? `"""${key}"""` : key;
}

function quotedText(text: string): string {
  if (/[\n`]/.test(text)) return `"""${text}"""`;
  if (/[#;]/.test(text)) return `\`${text}\``;
  return text.trim() === text ? text : `"${text}"`;
}
