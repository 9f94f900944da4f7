/**
 * How plain scalars are read. `kustomize`: as kustomize reads manifests (`on` is text, a date becomes a full timestamp).
 * `api`: as the API machinery reads YAML (`on` is true, a date stays text). Both take YAML 1.1 integers (`0777` = 511,
 * `1_000` = 1000). Vectors: yaml-parse.test.ts.
 */
export type YamlDialect = "kustomize" | "api";

/** Thrown for what JSON cannot hold. */
export class NotRepresentable extends Error {}

type Scalar = string | number | bigint | boolean | null;

const words = new Map<string, Scalar>([
  ...["", "~", "null", "Null", "NULL"].map((word) => [word, null] as const),
  ...["true", "True", "TRUE"].map((word) => [word, true] as const),
  ...["false", "False", "FALSE"].map((word) => [word, false] as const),
]);
const apiWords = new Map<string, Scalar>([
  ...words,
  ...["y", "Y", "yes", "Yes", "YES", "on", "On", "ON"].map((word) => [word, true] as const),
  ...["n", "N", "no", "No", "NO", "off", "Off", "OFF"].map((word) => [word, false] as const),
]);
const unrepresentable = /^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$/;
const integer = /^[-+]?(?:0[bB][01]+|0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0|[1-9][0-9]*)$/;
const float = /^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$/;
const largestUnsigned = 2n ** 64n - 1n;
const smallestSigned = -(2n ** 63n);
const largestSigned = 2n ** 63n - 1n;

/**
 * The value of a plain scalar without a tag.
 *
 * @throws {NotRepresentable} for infinities and NaN
 */
export function resolvePlain(text: string, dialect: YamlDialect): Scalar {
  const first = text.charCodeAt(0);
  // Digits, sign and dot start every number; letters start every word. Most scalars end here.
  const numeric = (first >= 0x30 && first <= 0x39) || first === 0x2b || first === 0x2d || first === 0x2e;
  if (!numeric) {
    if (text.length > 5) return text;
    const word = (dialect === "api" ? apiWords : words).get(text);
    return word === undefined ? text : word;
  }
  if (unrepresentable.test(text)) throw new NotRepresentable();
  return resolveNumber(text) ?? (dialect === "kustomize" ? (resolveTimestamp(text) ?? text) : text);
}

/** Whether a plain scalar is how YAML writes that there is nothing. */
export function isNullScalar(text: string): boolean {
  return words.get(text) === null;
}

/** The integer or float a text spells, as the Go YAML libraries read them; undefined when it is neither. */
export function resolveNumber(text: string): number | bigint | undefined {
  const plain = text.startsWith(".") ? text : text.replaceAll("_", "");
  if (text.startsWith("_")) return undefined;
  if (integer.test(plain)) {
    const value = parseInteger(plain);
    const signed = plain.startsWith("-") || plain.startsWith("+");
    if (value >= smallestSigned && value <= (signed ? largestSigned : largestUnsigned)) {
      const double = Number(value);
      return Number.isSafeInteger(double) ? (double === 0 ? 0 : double) : value;
    }
  }
  if (!float.test(plain)) return undefined;
  const double = Number(plain);
  return Number.isFinite(double) ? (double === 0 ? 0 : double) : undefined;
}

function parseInteger(plain: string): bigint {
  const negative = plain.startsWith("-");
  const digits = negative || plain.startsWith("+") ? plain.slice(1) : plain;
  const octal = /^0[0-7]+$/.test(digits);
  const magnitude = BigInt(octal ? `0o${digits.slice(1)}` : digits);
  return negative ? -magnitude : magnitude;
}

const timestamp =
  /^(\d{4})-(\d{1,2})-(\d{1,2})(?:(?:[Tt](\d{1,2}):(\d{1,2}):(\d{1,2})(\.\d{1,9})?(Z|[-+]\d\d:\d\d))|(?: +(\d{1,2}):(\d{1,2}):(\d{1,2})(\.\d{1,9})?))?$/;

/** The timestamp in RFC 3339, as kustomize prints it; undefined when the text is none. */
export function resolveTimestamp(text: string): string | undefined {
  const match = timestamp.exec(text);
  if (match === null) return undefined;
  const [, year = "", month = "", day = ""] = match;
  const [hour, minute, second] = [
    match[4] ?? match[9] ?? "0",
    match[5] ?? match[10] ?? "0",
    match[6] ?? match[11] ?? "0",
  ];
  const fraction = (match[7] ?? match[12] ?? "").replace(/0+$/, "").replace(/^\.$/, "");
  const zone = match[8] ?? "Z";
  const two = (part: string): string => part.padStart(2, "0");
  const spelled = `${year}-${two(month)}-${two(day)}T${two(hour)}:${two(minute)}:${two(second)}`;
  const epoch = Date.parse(`${spelled}Z`);
  // The 31st of a short month parses to the next one.
  if (Number.isNaN(epoch) || new Date(epoch).toISOString().slice(0, 19) !== spelled) return undefined;
  return `${spelled}${fraction}${zone === "+00:00" || zone === "-00:00" ? "Z" : zone}`;
}
