import { asArray, asText, at } from "../../src/lib/json.ts";
import type { TestCluster } from "./cluster.ts";
import { startControllerProcess, type ControllerProcess } from "./controller-process.ts";

/** Flags that make no sense outside a pod; listeners get free ports of loopback. */
const leftOut = [
  "metrics-bind-address",
  "health-probe-bind-address",
  "gate-bind-address",
  "enable-webhook",
  "webhook-",
];

/**
 * Runs the program as the Deployment in the cluster says: its arguments, and a token of its ServiceAccount. The pods of a
 * simulated node run nothing, so admission is taken away: the API server could not reach it.
 */
export async function startInstalledController(
  cluster: TestCluster,
  { namespace }: { readonly namespace: string },
): Promise<ControllerProcess> {
  const { admin, server, caPem } = cluster;
  const name = "stageset-controller";
  const deployment = await admin.get({ apiVersion: "apps/v1", kind: "Deployment", metadata: { name, namespace } });
  const pod = at(deployment, "spec", "template", "spec");
  const account = asText(at(pod, "serviceAccountName")) ?? "";
  const rendered = asArray(at(asArray(at(pod, "containers"))[0], "args")).map((arg) => asText(arg) ?? "");
  await admin.delete({
    apiVersion: "admissionregistration.k8s.io/v1",
    kind: "ValidatingWebhookConfiguration",
    metadata: { name: `${name}-${namespace}` },
  });
  const reply = await admin.request("POST", `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`, {
    body: { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: { expirationSeconds: 3600 } },
  });
  return startControllerProcess({
    server,
    caPem,
    token: asText(at(reply.body, "status", "token")) ?? "",
    namespaces: [],
    args: [
      ...rendered.filter((arg) => !leftOut.some((flag) => arg.startsWith(`--${flag}`))),
      `--leader-election-namespace=${namespace}`,
    ],
  });
}
