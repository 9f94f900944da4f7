/** The schema pattern of a duration: an optional sign, then `0` alone or one or more `<decimal><unit>`. */
export const durationPattern = "^[-+]?(0|(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$";

const nanosecondsPer: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1_000n,
  "\u00b5s": 1_000n,
  "\u03bcs": 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
};
const nanosecondsPerMs = 1_000_000n;
const maxNanoseconds = 2n ** 63n - 1n;
// More digits than this are either beyond the maximum or below a nanosecond; cutting them keeps hostile texts cheap.
const maxIntegerDigits = 19;
const maxFractionDigits = 18;

/**
 * The duration in whole milliseconds, cut towards zero, but never to zero: a positive text below 1 ms is 1, a negative
 * one above −1 ms is −1. Callers treat what is not positive as unset.
 *
 * @returns undefined when the text is no duration or its magnitude is above 2⁶³−1 ns
 */
export function durationMs(text: string): number | undefined {
  const negative = text.startsWith("-");
  const start = negative || text.startsWith("+") ? 1 : 0;
  if (text.length === start + 1 && text[start] === "0") return 0;
  const nanoseconds = sumOfParts(text, start);
  if (nanoseconds === undefined || nanoseconds === 0n) return nanoseconds === undefined ? undefined : 0;
  const ms = Math.max(1, Number(nanoseconds / nanosecondsPerMs));
  return negative ? -ms : ms;
}

function sumOfParts(text: string, start: number): bigint | undefined {
  const part = /(?:0*([0-9]*)(?:\.([0-9]*))?)(ns|us|µs|μs|ms|s|m|h)/y;
  part.lastIndex = start;
  if (start >= text.length) return undefined;
  let sum = 0n;
  while (part.lastIndex < text.length) {
    const from = part.lastIndex;
    const match = part.exec(text);
    if (match === null) return undefined;
    const [whole, digits = "", fraction = "", unit = ""] = match;
    const size = nanosecondsPer[unit];
    const hasDigit = /^\.?[0-9]/.test(text.slice(from, from + 2));
    if (size === undefined || !hasDigit || whole === "" || digits.length > maxIntegerDigits) return undefined;
    const kept = fraction.slice(0, maxFractionDigits);
    sum += BigInt(digits) * size + (BigInt(kept) * size) / 10n ** BigInt(kept.length);
    if (sum > maxNanoseconds) return undefined;
  }
  return sum;
}

/** The duration as people write it, largest unit first and without zero parts: `1h2m3s`, `1.5s`, `250ms`; 0 is `0s`. */
export function formatDuration(ms: number): string {
  const whole = Math.round(Math.abs(ms));
  const sign = ms < 0 && whole > 0 ? "-" : "";
  if (whole < 1_000) return whole === 0 ? "0s" : `${sign}${whole}ms`;
  const hours = Math.floor(whole / 3_600_000);
  const minutes = Math.floor((whole % 3_600_000) / 60_000);
  const seconds = (whole % 60_000) / 1_000;
  return sign + [part(hours, "h"), part(minutes, "m"), part(seconds, "s")].join("");
}

function part(amount: number, unit: string): string {
  return amount === 0 ? "" : `${amount}${unit}`;
}
