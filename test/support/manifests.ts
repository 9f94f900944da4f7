import { stringify } from "yaml";
import { podAnnotations } from "../../src/dev/kwok-config.ts";

/** How the pods of a {@link deployment} live; absent: ready at once. */
export interface DeploymentOptions {
  readonly namespace?: string;
  readonly replicas?: number;
  readonly pods?: Partial<Readonly<Record<keyof typeof podAnnotations, string>>>;
  readonly image?: string;
}

/** A Deployment manifest as YAML. */
export function deployment(
  name: string,
  { namespace, replicas = 1, pods = {}, image = "app" }: DeploymentOptions = {},
) {
  const annotations = Object.fromEntries(
    Object.entries(podAnnotations).flatMap(([option, key]) => {
      const value = Object.entries(pods).find(([given]) => given === option)?.[1];
      return value === undefined ? [] : [[key, value]];
    }),
  );
  return stringify({
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name, ...(namespace === undefined ? {} : { namespace }) },
    spec: {
      replicas,
      selector: { matchLabels: { app: name } },
      template: { metadata: { labels: { app: name }, annotations }, spec: { containers: [{ name: "app", image }] } },
    },
  });
}
