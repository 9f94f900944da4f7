/**
 * Doubles as Go's strconv.FormatFloat spells them with the least digits that read back alike. `f`: never an exponent, as
 * SOPS feeds them to its MAC; `g`: an exponent below -4 and from 6, as YAML shows them.
 */
export function renderGoFloat(value: number, format: "f" | "g"): string {
  const text = String(value);
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(text);
  if (match === null) return text;
  const [, sign = "", whole = "", fraction = "", power = "0"] = match;
  const leading = `${whole}${fraction}`.replace(/^0+/, "");
  const digits = leading.replace(/0+$/, "");
  if (digits === "") return `${sign}0`;
  // The point stands after so many digits.
  const point = whole.length + Number(power) - (whole.length + fraction.length - leading.length);
  if (format === "g" && (point - 1 < -4 || point - 1 >= 6)) {
    const exponent = point - 1;
    const size = String(Math.abs(exponent)).padStart(2, "0");
    const rest = digits.length > 1 ? `.${digits.slice(1)}` : "";
    return `${sign}${digits.slice(0, 1)}${rest}e${exponent < 0 ? "-" : "+"}${size}`;
  }
  if (point <= 0) return `${sign}0.${"0".repeat(-point)}${digits}`;
  if (digits.length <= point) return sign + digits.padEnd(point, "0");
  return `${sign}${digits.slice(0, point)}.${digits.slice(point)}`;
}
