export const namespace = "bench";

/** Size of a row: StageSets, stages of each, objects of a stage. */
export interface Shape {
  readonly stageSets: number;
  readonly stages: number;
  readonly objects: number;
}

export type Maker = (name: string, version: string) => unknown;

export const configMap: Maker = (name, version) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, namespace },
  data: { version, text: "x".repeat(200) },
});

/** Ready five seconds after its pods run. */
export const slowDeployment: Maker = (name, version) => deployment({ namespace, name, readyAfter: "5s", version });

/** One replica that is ready after this duration of Go. */
export function deployment(o: {
  readonly namespace: string;
  readonly name: string;
  readonly readyAfter: string;
  readonly version: string;
}): unknown {
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: o.name, namespace: o.namespace },
    spec: {
      replicas: 1,
      selector: { matchLabels: { app: o.name } },
      template: {
        metadata: { labels: { app: o.name }, annotations: { "bench.local/ready-after": o.readyAfter } },
        spec: { containers: [{ name: "c", image: `image:${o.version}` }] },
      },
    },
  };
}

export function objectName(stageSet: number, stage: number, object: number): string {
  return `s${stageSet}-${stage}-${object}`;
}

/** The files of one StageSet's artifact: a folder per stage. */
export function artifactFiles(shape: Shape, stageSet: number, make: Maker, version: string): Record<string, string> {
  const files: Record<string, string> = {};
  for (let stage = 0; stage < shape.stages; stage++)
    for (let object = 0; object < shape.objects; object++)
      files[`${stage}/${object}.yaml`] = JSON.stringify(make(objectName(stageSet, stage, object), version));
  return files;
}

export function suspended(manifest: ReturnType<typeof stageSet>): unknown {
  return { ...manifest, spec: { ...manifest.spec, suspend: true } };
}

export function stageSet(
  shape: Shape,
  index: number,
): { readonly spec: Readonly<Record<string, unknown>> } & Readonly<Record<string, unknown>> {
  return {
    apiVersion: "stages.metio.wtf/v1",
    kind: "StageSet",
    metadata: { name: `s${index}`, namespace },
    spec: {
      interval: "1h",
      serviceAccountName: `s${index}`,
      stages: Array.from({ length: shape.stages }, (_, stage) => ({
        name: `stage-${stage}`,
        path: `./${stage}`,
        sourceRef: { name: `s${index}` },
      })),
    },
  };
}
