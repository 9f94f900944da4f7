/** Longer headers, or ones with more ranges, are ignored (spec 40 §8.3). */
const longestAccept = 4_096;
const mostRanges = 64;

type MediaType = "application/json" | "text/plain";

interface Range {
  readonly type: string;
  readonly q: number;
}

/** The dialect a client asked for: JSON only if it is preferred over text, or named literally at equal preference. */
export function dialectOf(accept: string | undefined): "text" | "json" {
  if (accept === undefined || Buffer.byteLength(accept) > longestAccept) return "text";
  const parts = accept.split(",");
  if (parts.length > mostRanges) return "text";
  const ranges = parts.flatMap((part) => parseRange(part) ?? []);
  const json = quality(ranges, "application/json");
  const text = quality(ranges, "text/plain");
  const literal = ranges.some((range) => range.type === "application/json");
  return json > 0 && (json > text || (json === text && literal)) ? "json" : "text";
}

/** The preference for a type: that of its most specific matching range, 0 if none matches. */
function quality(ranges: readonly Range[], type: MediaType): number {
  for (const pattern of [type, `${type.slice(0, type.indexOf("/"))}/*`, "*/*"]) {
    const matching = ranges.filter((range) => range.type === pattern);
    if (matching.length > 0) return Math.max(...matching.map((range) => range.q));
  }
  return 0;
}

const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const mediaRange = new RegExp(`^(?:\\*/\\*|${token}/(?:\\*|${token}))$`);
const weight = /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/;

/** One range with its weight; undefined when it is malformed. Other parameters do not count. */
function parseRange(text: string): Range | undefined {
  const [range = "", ...parameters] = text.split(";").map((part) => part.trim());
  if (!mediaRange.test(range) || (range.startsWith("*/") && range !== "*/*")) return undefined;
  let q = 1;
  for (const parameter of parameters) {
    const [name = "", value = ""] = parameter.split("=").map((part) => part.trim());
    if (name.toLowerCase() !== "q") continue;
    if (!weight.test(value)) return undefined;
    q = Number(value);
  }
  return { type: range.toLowerCase(), q };
}
