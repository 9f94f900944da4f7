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
export const slowDeployment: Maker = (name, version) => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name, namespace },
  spec: {
    replicas: 1,
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name }, annotations: { "bench.local/ready-after": "5s" } },
      spec: { containers: [{ name: "c", image: `image:${version}` }] },
    },
  },
});

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

export function stageSet(shape: Shape, index: number): unknown {
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
