import { systemClock } from "../../src/lib/clock.ts";
import { type BenchCluster, type MeasuredProgram, progress, stageSets, startBenchCluster } from "./cluster.ts";
import { artifactFiles, namespace, objectName, stageSet, type Maker, type Shape } from "./manifests.ts";
import { isReadyAt, observe, stagesReady } from "./observer.ts";

/** One line of output. */
export interface Row {
  readonly row: string;
  /** Seconds, unless `unit` says otherwise. */
  readonly ours: number;
  readonly floor: number;
  readonly ratio: number;
  readonly budget: string;
  readonly cpuMs: number;
  readonly requests: number;
  readonly rssMb: number;
  /** Since the program started. */
  readonly peakRssMb?: number;
  readonly unit?: string;
}

export function print(row: Row): void {
  process.stdout.write(`${JSON.stringify(row)}\n`);
}

export function seconds(ms: number): number {
  return Math.round(ms) / 1_000;
}

export function rowOf(
  row: string,
  budget: string,
  measured: { readonly oursMs: number; readonly floorMs: number } & Pick<
    Row,
    "cpuMs" | "requests" | "rssMb" | "peakRssMb"
  >,
): Row {
  const { oursMs, floorMs, ...used } = measured;
  const ratio = Math.round((oursMs / floorMs) * 100) / 100;
  return { row, ours: seconds(oursMs), floor: seconds(floorMs), ratio, budget, ...used };
}

/** Namespace, ServiceAccounts with every right, and published artifacts: what exists before the clock starts. */
export async function prepare(cluster: BenchCluster, shape: Shape, make: Maker): Promise<void> {
  await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  await cluster.apply({
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRoleBinding",
    metadata: { name: "bench" },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "cluster-admin" },
    subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "Group", name: `system:serviceaccounts:${namespace}` }],
  });
  await each(shape.stageSets, async (index) => {
    await cluster.apply({ apiVersion: "v1", kind: "ServiceAccount", metadata: { name: `s${index}`, namespace } });
  });
  await publish(cluster, { shape, make, version: "v1" });
}

export async function publish(
  cluster: BenchCluster,
  {
    shape,
    make,
    version,
    ...o
  }: {
    readonly shape: Shape;
    readonly make: Maker;
    readonly version: string;
    /** Of the first so many alone. */
    readonly count?: number;
  },
): Promise<void> {
  await each(o.count ?? shape.stageSets, (index) =>
    cluster.publisher.publish({
      namespace,
      name: `s${index}`,
      revision: version,
      files: artifactFiles(shape, index, make, version),
    }),
  );
}

/** Runs `work` for 0 … count-1, 16 at a time. */
export async function each(count: number, work: (index: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      while (next < count) await work(next++);
    }),
  );
}

const longestReleaseMs = 20 * 60_000;
const progressEveryMs = 15_000;

/**
 * Creates the StageSets of a shape and waits until all are Ready, saying on the way how far they are; milliseconds.
 *
 * @throws {Error} after 20 minutes
 */
export async function release(cluster: BenchCluster, shape: Shape): Promise<number> {
  using seen = observe(cluster.client, stageSets);
  const ready = seen.firstSeen(stagesReady);
  const started = systemClock.monotonic();
  const done = seen.until(shape.stageSets, isReadyAt("v1"));
  const tooLong = Promise.withResolvers<never>();
  const look = (): void => {
    const how = `${ready.size} of ${shape.stageSets * shape.stages} stages are Ready`;
    progress(how);
    if (systemClock.monotonic() - started > longestReleaseMs) tooLong.reject(new Error(`not released in time: ${how}`));
    else timer = systemClock.timer(progressEveryMs, look);
  };
  let timer = systemClock.timer(progressEveryMs, look);
  try {
    await each(shape.stageSets, (index) => cluster.apply(stageSet(shape, index)));
    return (await Promise.race([done, tooLong.promise])) - started;
  } finally {
    timer[Symbol.dispose]();
  }
}

export interface Before {
  readonly cpuMs: number;
  readonly requests: number;
}

export async function before(cluster: BenchCluster, program: MeasuredProgram): Promise<Before> {
  return { cpuMs: await program.cpuMs(), requests: await cluster.requests() };
}

export async function since(
  cluster: BenchCluster,
  program: MeasuredProgram,
  start: Before,
): Promise<Pick<Row, "cpuMs" | "requests" | "rssMb" | "peakRssMb">> {
  return {
    cpuMs: (await program.cpuMs()) - start.cpuMs,
    requests: (await cluster.requests()) - start.requests,
    rssMb: await program.rssMb(),
    peakRssMb: await program.peakRssMb(),
  };
}

/** Server-side apply of as many objects by a bare client. */
export async function floorOfApplies(shape: Shape, make: Maker): Promise<number> {
  await using cluster = await startBenchCluster({ kwok: false });
  await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  const started = systemClock.monotonic();
  await each(shape.stageSets, async (index) => {
    for (let stage = 0; stage < shape.stages; stage++)
      await Promise.all(
        Array.from({ length: shape.objects }, (_, object) =>
          cluster.apply(make(objectName(index, stage, object), "v1")),
        ),
      );
  });
  return systemClock.monotonic() - started;
}

/** The value below which this share of the values lies. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? 0;
}

/** A row that is one figure, not a comparison. */
export function figure(
  row: string,
  o: { readonly ours: number; readonly unit: string; readonly budget: string } & Partial<Row>,
): Row {
  return { row, floor: 0, ratio: 0, cpuMs: 0, requests: 0, rssMb: 0, ...o, ours: Math.round(o.ours * 10) / 10 };
}
