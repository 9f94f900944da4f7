/** Series of a page in the Prometheus text format. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export function parseMetrics(page: string): readonly Sample[] {
  return page.split("\n").flatMap((line) => {
    const match = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (line.startsWith("#") || match === null) return [];
    const labels = Object.fromEntries(
      [...(match[2] ?? "").matchAll(/([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"/g)].map(([, name = "", value = ""]) => [
        name,
        value.replaceAll('\\"', '"').replaceAll("\\\\", "\\"),
      ]),
    );
    return [{ name: match[1] ?? "", labels, value: Number(match[3]) }];
  });
}

/** The value of the series of a family whose labels include these; undefined when there is none. */
export function sampleOf(
  page: string,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  return samplesOf(page, name, labels)[0]?.value;
}

export function samplesOf(
  page: string,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): readonly Sample[] {
  return parseMetrics(page).filter(
    (sample) =>
      sample.name === name && Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
  );
}
