import { stringify } from "yaml";

/** Annotations on a pod (or a pod template) that say how its simulated life goes. Durations as Go writes them: `1m30s`. */
export const podAnnotations = {
  /** How long after it runs the pod becomes ready; absent: at once. */
  readyAfter: "bench.local/ready-after",
  /** How long after it is ready the pod ends. A Job's pod without it ends at once, any other never. */
  completeAfter: "bench.local/complete-after",
  /** `"true"`: the pod ends as Failed with exit code 1. */
  fail: "bench.local/fail",
  /** `"true"`: the pod runs and is never ready. */
  neverReady: "bench.local/never-ready",
  /** The pod stays Pending, its containers waiting for this reason, such as `ImagePullBackOff`. */
  waitingReason: "bench.local/waiting-reason",
} as const;

const annotation = (name: string): string => `.metadata.annotations["${name}"]`;
const ready = '.status.conditions.[] | select( .type == "Ready" ) | .status';
const absent = (key: string): object => ({ key, operator: "DoesNotExist" });
const present = (key: string): object => ({ key, operator: "Exists" });
const oneOf = (key: string, ...values: readonly string[]): object => ({ key, operator: "In", values });
const noneOf = (key: string, ...values: readonly string[]): object => ({ key, operator: "NotIn", values });
const alive = absent(".metadata.deletionTimestamp");
const waits = absent(annotation(podAnnotations.waitingReason));

function conditions(names: readonly string[], status: "True" | "False"): string {
  return names
    .map((type) => `- {type: ${type}, status: "${status}", lastTransitionTime: {{ Now | Quote }}}`)
    .join("\n");
}

function containers(status: string): string {
  return `containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  restartCount: 0
${status.replace(/^/gm, "  ")}
{{ end }}
initContainerStatuses:
{{ range .spec.initContainers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  restartCount: 0
  ready: true
  state: {terminated: {exitCode: 0, reason: Completed, startedAt: {{ Now | Quote }}, finishedAt: {{ Now | Quote }}}}
{{ end }}`;
}

const addresses = `hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
podIP: {{ PodIPWith .spec.nodeName ( or .spec.hostNetwork false ) ( or .metadata.uid "" ) ( or .metadata.name "" ) ( or .metadata.namespace "" ) | Quote }}
startTime: {{ Now | Quote }}`;

function running(isReady: boolean): string {
  return `phase: Running
conditions:
${conditions(["Initialized", "PodReadyToStartContainers"], "True")}
${conditions(["Ready", "ContainersReady"], isReady ? "True" : "False")}
{{ range .spec.readinessGates }}
- {type: {{ .conditionType | Quote }}, status: "True", lastTransitionTime: {{ Now | Quote }}}
{{ end }}
${containers(`ready: ${String(isReady)}\nstarted: true\nstate: {running: {startedAt: {{ Now | Quote }}}}`)}
${addresses}
`;
}

function ended(succeeded: boolean): string {
  const exit = succeeded ? "exitCode: 0, reason: Completed" : "exitCode: 1, reason: Error";
  const times = "startedAt: {{ Now | Quote }}, finishedAt: {{ Now | Quote }}";
  return `phase: ${succeeded ? "Succeeded" : "Failed"}
conditions:
${conditions(["Ready", "ContainersReady"], "False")}
${containers(`ready: false\nstarted: false\nstate: {terminated: {${exit}, ${times}}}`)}
`;
}

function podStage(name: string, match: readonly object[], next: object, delayFrom?: string): object {
  return stage(name, "Pod", match, next, delayFrom);
}

function stage(name: string, kind: string, match: readonly object[], next: object, delayFrom?: string): object {
  return {
    apiVersion: "kwok.x-k8s.io/v1alpha1",
    kind: "Stage",
    metadata: { name },
    spec: {
      resourceRef: { apiGroup: "v1", kind },
      selector: { matchExpressions: match },
      ...(delayFrom === undefined
        ? {}
        : { delay: { durationMilliseconds: 0, durationFrom: { expressionFrom: annotation(delayFrom) } } }),
      next,
    },
  };
}

const nodeStatus = `conditions:
{{ range NodeConditions }}
- type: {{ .type | Quote }}
  status: {{ .status | Quote }}
  reason: {{ .reason | Quote }}
  message: {{ .message | Quote }}
  lastHeartbeatTime: {{ Now | Quote }}
  lastTransitionTime: {{ Now | Quote }}
{{ end }}
phase: Running
`;

/** KWOK's configuration: how a simulated node and the pods on it live. */
export function renderKwokConfig(): string {
  const pending = oneOf(".status.phase", "Pending");
  const runs = oneOf(".status.phase", "Running");
  const isReady = oneOf(ready, "True");
  const notReady = noneOf(ready, "True");
  const readyAfter = annotation(podAnnotations.readyAfter);
  const neverReady = annotation(podAnnotations.neverReady);
  const fails = oneOf(annotation(podAnnotations.fail), "true");
  const succeeds = noneOf(annotation(podAnnotations.fail), "true");
  const ofJob = oneOf(".metadata.ownerReferences.[].kind", "Job");
  const notOfJob = noneOf(".metadata.ownerReferences.[].kind", "Job");
  const { completeAfter } = podAnnotations;
  const documents = [
    {
      apiVersion: "config.kwok.x-k8s.io/v1alpha1",
      kind: "KwokConfiguration",
      options: { podPlayStageParallelism: 16, nodePlayStageParallelism: 4, podsOnNodeSyncParallelism: 4 },
    },
    stage("node-ready", "Node", [notReady], { statusTemplate: nodeStatus }),
    podStage("pod-gone", [present(".metadata.deletionTimestamp")], { delete: true }),
    podStage("pod-ready-at-once", [alive, pending, waits, absent(readyAfter), noneOf(neverReady, "true")], {
      statusTemplate: running(true),
    }),
    podStage("pod-runs", [alive, pending, waits, present(readyAfter)], { statusTemplate: running(false) }),
    podStage("pod-runs-never-ready", [alive, pending, waits, absent(readyAfter), oneOf(neverReady, "true")], {
      statusTemplate: running(false),
    }),
    podStage(
      "pod-ready",
      [alive, runs, notReady, present(readyAfter), noneOf(neverReady, "true")],
      { statusTemplate: running(true) },
      podAnnotations.readyAfter,
    ),
    podStage(
      "pod-waits",
      [alive, pending, present(annotation(podAnnotations.waitingReason)), absent(".status.podIP")],
      {
        statusTemplate: `phase: Pending
conditions:
${conditions(["Ready", "ContainersReady"], "False")}
${containers(`ready: false\nstarted: false\nstate: {waiting: {reason: {{ index $.metadata.annotations "${podAnnotations.waitingReason}" | Quote }}}}`)}
${addresses}
`,
      },
    ),
    podStage(
      "job-pod-succeeds",
      [alive, runs, isReady, succeeds, ofJob],
      { statusTemplate: ended(true) },
      completeAfter,
    ),
    podStage(
      "pod-succeeds",
      [alive, runs, isReady, succeeds, notOfJob, present(annotation(completeAfter))],
      { statusTemplate: ended(true) },
      completeAfter,
    ),
    podStage("pod-fails", [alive, runs, isReady, fails], { statusTemplate: ended(false) }, completeAfter),
  ];
  return documents.map((document) => stringify(document)).join("---\n");
}
