/**
 * Text that comes from the cluster, for a terminal: without control characters, whose sequences could move the cursor or
 * rewrite what is shown, and without what turns the direction of writing (spec 70 §3).
 */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]+/gu, " ");
}

/** Columns aligned to the left, two spaces apart, the last not padded, an absent value as `-` (spec 70 §3). */
export function renderTable(head: readonly string[], rows: readonly (readonly (string | undefined)[])[]): string {
  const cells = [head, ...rows].map((row) => row.map((cell) => printable(cell ?? "") || "-"));
  const widths = head.map((_, column) => Math.max(...cells.map((row) => widthOf(row[column] ?? ""))));
  const padded = (cell: string, column: number): string => cell + " ".repeat((widths[column] ?? 0) - widthOf(cell));
  return cells
    .map((row) => row.map((cell, column) => (column === row.length - 1 ? cell : padded(cell, column))).join("  "))
    .map((line) => `${line.trimEnd()}\n`)
    .join("");
}

/** Characters, not the two halves some of them are stored in. */
function widthOf(text: string): number {
  return Array.from(text).length;
}
