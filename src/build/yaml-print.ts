import { NotRepresentable, resolvePlain } from "./yaml-scalar.ts";
import { isMapping, isSequence, type YamlMapping, type YamlValue } from "./yaml-value.ts";

/** Longest key written in one line with its value; YAML allows 1024 characters. */
const longestSimpleKey = 500;

/**
 * The value as YAML that the API machinery reads back unchanged: block style, keys in code unit order, no folding, plain
 * scalars wherever YAML permits, texts of several lines as literals. The shape substitution works on (spec 20 §5.3).
 */
export function printYaml(value: YamlValue): string {
  const lines: string[] = [];
  printBlock(value, { indent: 0, lead: "", lines });
  return `${lines.join("\n")}\n`;
}

interface Place {
  /** Of the lines after the first. */
  readonly indent: number;
  /** What the first line starts with: its indentation, and `- ` or a key. */
  readonly lead: string;
  readonly lines: string[];
}

function printBlock(value: YamlValue, place: Place): void {
  if (isMapping(value) && Object.keys(value).length > 0) printMapping(value, place);
  else if (isSequence(value) && value.length > 0) printSequence(value, place);
  else printScalar(value, place);
}

function printMapping(mapping: YamlMapping, { indent, lead, lines }: Place): void {
  let start = lead;
  for (const key of Object.keys(mapping).sort()) {
    const member = mapping[key];
    if (member === undefined) continue;
    const simple = key.length <= longestSimpleKey;
    if (!simple) lines.push(`${start}? ${quoteDouble(key)}`);
    printMember(member, { indent, lead: simple ? `${start}${printKey(key)}:` : `${pad(indent)}:`, lines });
    start = pad(indent);
  }
}

function printMember(member: YamlValue, { indent, lead, lines }: Place): void {
  if (!isNested(member)) {
    printScalar(member, { indent, lead: `${lead} `, lines });
    return;
  }
  lines.push(lead);
  printBlock(member, { indent: indent + 2, lead: pad(indent + 2), lines });
}

function printSequence(sequence: readonly YamlValue[], { indent, lead, lines }: Place): void {
  let start = lead;
  for (const item of sequence) {
    if (isSequence(item) && item.length > 0) {
      lines.push(`${start}-`);
      printBlock(item, { indent: indent + 2, lead: pad(indent + 2), lines });
    } else printBlock(item, { indent: isNested(item) ? indent + 2 : indent, lead: `${start}- `, lines });
    start = pad(indent);
  }
}

function isNested(value: YamlValue): boolean {
  return isSequence(value) ? value.length > 0 : isMapping(value) && Object.keys(value).length > 0;
}

/** A scalar or an empty collection; a literal's lines stand two deeper than `indent`, the parent's. */
function printScalar(value: YamlValue, { indent, lead, lines }: Place): void {
  if (typeof value !== "string") {
    lines.push(lead + (isSequence(value) ? "[]" : isMapping(value) ? "{}" : String(value)));
    return;
  }
  if (!isLiteral(value)) {
    lines.push(lead + printText(value));
    return;
  }
  const chomping = !value.endsWith("\n") ? "-" : value.endsWith("\n\n") ? "+" : "";
  // With the indentation told, no substituted text can be mistaken for it.
  lines.push(`${lead}|2${chomping}`);
  const body = value.endsWith("\n") ? value.slice(0, -1) : value;
  for (const line of body.split("\n")) lines.push(line === "" ? "" : pad(indent + 2) + line);
}

function isLiteral(text: string): boolean {
  return text.includes("\n") && text.trim() !== "" && isPrintable(text.replaceAll("\n", ""));
}

function printKey(key: string): string {
  return key === "<<" ? "'<<'" : printText(key);
}

function printText(text: string): string {
  if (!isPrintable(text)) return quoteDouble(text);
  return isPlain(text) ? text : `'${text.replaceAll("'", "''")}'`;
}

function isPlain(text: string): boolean {
  if (text === "" || text.trim() !== text || /^(?:---|\.\.\.)/.test(text)) return false;
  if (/^[,[\]{}#&*!|>'"%@`]/.test(text) || /^[-?:](?:\s|$)/.test(text)) return false;
  if (/:(?:\s|$)|\s#/.test(text)) return false;
  try {
    return resolvePlain(text, "api") === text;
  } catch (error) {
    if (error instanceof NotRepresentable) return false;
    throw error;
  }
}

/** Written as it is, this text is read as it is: no controls, no characters that some readers take for line ends. */
function isPrintable(text: string): boolean {
  return !/[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/.test(text) && text.isWellFormed();
}

/** A JSON text is a YAML double-quoted scalar, once what YAML does not print is escaped. */
function quoteDouble(text: string): string {
  const escape = (char: string): string => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(text).replace(/[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g, escape);
}

function pad(indent: number): string {
  return " ".repeat(indent);
}
