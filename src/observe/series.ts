import {
  Counter as PromCounter,
  Gauge as PromGauge,
  Histogram as PromHistogram,
  type Registry as PromRegistry,
  type RegistryContentType,
} from "prom-client";
import type { Counter, Gauge, Histogram, MetricLabels } from "../lib/telemetry.ts";

type Registry = PromRegistry<RegistryContentType>;

interface Family {
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
}

/** A counter whose series can be dropped by a part of their labels. */
export function counter(registry: Registry, { name, help, labels }: Family): Counter {
  const metric = new PromCounter({ name, help, labelNames: [...labels], registers: [registry] });
  const known = createSeriesIndex();
  return {
    add(series, by = 1) {
      known.add(series);
      metric.inc({ ...series }, by);
    },
    remove(part) {
      for (const series of known.take(part)) metric.remove({ ...series });
    },
  };
}

export function gauge(registry: Registry, { name, help, labels }: Family): Gauge {
  const metric = new PromGauge({ name, help, labelNames: [...labels], registers: [registry] });
  const known = createSeriesIndex();
  return {
    set(series, value) {
      known.add(series);
      metric.set({ ...series }, value);
    },
    remove(part) {
      for (const series of known.take(part)) metric.remove({ ...series });
    },
  };
}

export function histogram(registry: Registry, family: Family & { readonly buckets: readonly number[] }): Histogram {
  const { name, help, labels, buckets } = family;
  const metric = new PromHistogram({
    name,
    help,
    labelNames: [...labels],
    buckets: [...buckets],
    registers: [registry],
  });
  return { observe: (series, value) => metric.observe({ ...series }, value) };
}

/** A gauge whose series are computed when they are read. */
export function scrapedGauge(
  registry: Registry,
  { name, help, labels }: Family,
  read: () => Iterable<readonly [MetricLabels, number]>,
): void {
  new PromGauge({
    name,
    help,
    labelNames: [...labels],
    registers: [registry],
    collect() {
      this.reset();
      for (const [series, value] of read()) this.set({ ...series }, value);
    },
  });
}

/** Which series exist; prom-client removes one only by all of its labels. */
function createSeriesIndex(): {
  add(series: MetricLabels): void;
  take(part: MetricLabels): readonly MetricLabels[];
} {
  const known = new Map<string, MetricLabels>();
  return {
    add(series) {
      const key = JSON.stringify(series);
      if (!known.has(key)) known.set(key, series);
    },
    take(part) {
      const taken: MetricLabels[] = [];
      for (const [key, series] of known) {
        if (!Object.entries(part).every(([name, value]) => series[name] === value)) continue;
        known.delete(key);
        taken.push(series);
      }
      return taken;
    },
  };
}
