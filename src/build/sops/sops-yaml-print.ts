import { NotRepresentable, resolvePlain } from "../yaml-scalar.ts";
import { renderGoFloat } from "./go-number.ts";
import { malformed } from "./sops-problem.ts";
import type { Decrypted } from "./sops-tree.ts";
import type { SopsValue } from "./sops-value.ts";
import type { WrittenAt, YamlDocument } from "./sops-yaml.ts";

interface Edit {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

/** The text with its values in the clear and without metadata; all else stays. `format` says how texts are quoted. */
export function renderDecrypted(
  text: string,
  documents: readonly YamlDocument[],
  { decrypted, format }: { readonly decrypted: Decrypted; readonly format: "yaml" | "json" },
): string {
  const edits: Edit[] = [];
  for (const document of documents) {
    for (const [leaf, place] of document.written) {
      const value = decrypted.get(leaf);
      if (value === undefined) continue;
      edits.push(...editsOf(text, { value, place, format }));
    }
    if (document.metadata !== undefined)
      edits.push({ ...document.metadata.span, text: document.isEmptyBlock ? "{}\n" : "" });
  }
  return edited(
    text,
    edits.sort((one, other) => one.start - other.start),
  );
}

function editsOf(
  text: string,
  { value, place, format }: { readonly value: SopsValue; readonly place: WrittenAt; readonly format: "yaml" | "json" },
): readonly Edit[] {
  const { start, end } = place;
  if (value.kind !== "comment") return [{ start, end, text: renderScalar(value, place, format) }];
  const line = utf8(value).replaceAll("\n", " ");
  if (place.comment === "line") return [{ start, end, text: line }];
  if (place.comment === "inline") {
    // An encrypted one gets a line of its own from SOPS.
    const lineStart = text.lastIndexOf("\n", start) + 1;
    const indent = /^[ ]*/.exec(text.slice(lineStart, start))?.[0] ?? "";
    const value = text.slice(lineStart, start - 1).trimEnd();
    return [
      { start: lineStart, end: lineStart, text: `${indent}#${line}\n` },
      { start: lineStart + value.length, end, text: "" },
    ];
  }
  // SOPS writes the comments of a sequence as items of it.
  const dash = text.lastIndexOf("-", start);
  if (format === "json" || place.flow || text.slice(dash + 1, start).trim() !== "")
    throw malformed("a value is a comment");
  return [{ start: dash, end, text: `#${line}` }];
}

function edited(text: string, edits: readonly Edit[]): string {
  const parts: string[] = [];
  let end = 0;
  for (const edit of edits) {
    parts.push(text.slice(end, edit.start), edit.text);
    end = edit.end;
  }
  parts.push(text.slice(end));
  return parts.join("");
}

function renderScalar(value: SopsValue, place: WrittenAt, format: "yaml" | "json"): string {
  if (format === "json") return renderJson(value);
  if (value.kind === "text") return renderText(value.bytes, place);
  return value.kind === "float" ? renderGoFloat(value.value, "g") : renderJson(value).replace(/^"(.*)"$/, "$1");
}

/** A value as JSON. */
export function renderJson(value: SopsValue): string {
  switch (value.kind) {
    case "int":
      return value.text;
    case "time":
      return JSON.stringify(value.text);
    case "float":
    case "bool":
      return String(value.value);
    case "comment":
    case "text":
      return quoteJson(utf8(value));
  }
}

/** Go's encoder escapes what HTML would take for markup. */
function quoteJson(text: string): string {
  return JSON.stringify(text).replace(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function utf8(value: SopsValue): string {
  return value.kind === "text" || value.kind === "comment" ? Buffer.from(value.bytes).toString("utf8") : "";
}

function renderText(bytes: Uint8Array, place: WrittenAt): string {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return `!!binary ${Buffer.from(bytes).toString("base64")}`;
  }
  if (place.flow || !isPrintable(text)) return quoteDouble(text);
  if (text.includes("\n")) return isLiteral(text, place) ? renderLiteral(text, place) : quoteDouble(text);
  if (text.includes("\t") || isOther(text)) return quoteDouble(text);
  return isPlain(text) ? text : `'${text.replaceAll("'", "''")}'`;
}

/** Something else than text, for one reader or another. */
function isOther(text: string): boolean {
  if (/^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?$/.test(text) || text === "<<" || text === "=") return true;
  try {
    return resolvePlain(text, "api") !== text || resolvePlain(text, "kustomize") !== text;
  } catch (error) {
    if (error instanceof NotRepresentable) return true;
    throw error;
  }
}

function isPlain(text: string): boolean {
  if (text.trim() !== text || /^(?:---|\.\.\.)/.test(text)) return false;
  if (/^[,[\]{}#&*!|>'"%@`]/.test(text) || /^[-?:](?:\s|$)/.test(text)) return false;
  return !/:(?:\s|$)|\s#/.test(text);
}

function isLiteral(text: string, { inSequence }: WrittenAt): boolean {
  if (/ (?:\n|$)/.test(text)) return false;
  // Such a text needs its indentation told, which depends on more than its place in a sequence.
  return !/^[ \n]/.test(text) || !inSequence;
}

function renderLiteral(text: string, { indent }: WrittenAt): string {
  const hint = /^[ \n]/.test(text) ? "4" : "";
  const chomping = !text.endsWith("\n") ? "-" : text.endsWith("\n\n") || text === "\n" ? "+" : "";
  const body = text.endsWith("\n") ? text.slice(0, -1) : text;
  const lines = body.split("\n").map((line) => (line === "" ? "" : " ".repeat(indent) + line));
  // The line it stands in ends already.
  return [`|${hint}${chomping}`, ...lines].join("\n");
}

/** For SOPS: characters beyond the first plane are not. */
function isPrintable(text: string): boolean {
  return !/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]/.test(text);
}

const escapes: ReadonlyMap<string, string> = new Map([
  ["\0", "\\0"],
  ["\x07", "\\a"],
  ["\b", "\\b"],
  ["\t", "\\t"],
  ["\n", "\\n"],
  ["\v", "\\v"],
  ["\f", "\\f"],
  ["\r", "\\r"],
  ["\x1b", "\\e"],
  ['"', '\\"'],
  ["\\", "\\\\"],
  ["\u0085", "\\N"],
  ["\u2028", "\\L"],
  ["\u2029", "\\P"],
]);

function quoteDouble(text: string): string {
  const escaped = Array.from(text, (char) => {
    const named = escapes.get(char);
    if (named !== undefined || isPrintable(char)) return named ?? char;
    const code = char.codePointAt(0) ?? 0;
    const hex = code.toString(16).toUpperCase();
    if (code > 0xffff) return `\\U${hex.padStart(8, "0")}`;
    return code > 0xff ? `\\u${hex.padStart(4, "0")}` : `\\x${hex.padStart(2, "0")}`;
  });
  return `"${escaped.join("")}"`;
}
