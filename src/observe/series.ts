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
  // By StageSet where labels name one: series are dropped a StageSet at a time, and there are thousands of both.
  const buckets = new Map<string, Map<string, MetricLabels>>();
  return {
    add(series) {
      const name = bucketOf(series) ?? "";
      const bucket = buckets.get(name) ?? new Map<string, MetricLabels>();
      buckets.set(name, bucket);
      const key = JSON.stringify(series);
      if (!bucket.has(key)) bucket.set(key, series);
    },
    take(part) {
      const taken: MetricLabels[] = [];
      const name = bucketOf(part);
      const candidates = name === undefined ? [...buckets] : [[name, buckets.get(name)] as const];
      for (const [bucketName, bucket] of candidates) {
        if (bucket === undefined) continue;
        for (const [key, series] of bucket) {
          if (!Object.entries(part).every(([label, value]) => series[label] === value)) continue;
          bucket.delete(key);
          taken.push(series);
        }
        if (bucket.size === 0) buckets.delete(bucketName);
      }
      return taken;
    },
  };
}

function bucketOf({ namespace, stageset, name = stageset }: MetricLabels): string | undefined {
  return namespace === undefined || name === undefined ? undefined : `${namespace}/${name}`;
}
