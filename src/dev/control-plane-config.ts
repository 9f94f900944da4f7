import { generateKeyPair } from "node:crypto";
import { join } from "node:path";
import { promisify } from "node:util";
import { stringify } from "yaml";

/** Who holds a token of the token file. */
export const systemUsers = ["admin", "kube-controller-manager", "kube-scheduler", "kwok"] as const;
export type SystemUser = (typeof systemUsers)[number];

/** Files and addresses of one control plane. */
export interface Layout {
  readonly certificates: string;
  readonly logs: string;
  readonly data: string;
  /** The API server signs its own certificate; the file holds it and its authority. */
  readonly caFile: string;
  readonly tokenFile: string;
  readonly signingKey: string;
  readonly auditPolicy: string;
  readonly auditLog: string;
  readonly kwokConfig: string;
  readonly kubeconfigs: Readonly<Record<SystemUser, string>>;
  readonly userNames: Readonly<Record<SystemUser, string>>;
  readonly etcdUrl: string;
  readonly server: string;
  readonly apiServerPort: number;
}

export function layoutOf(dir: string, ports: { readonly etcdPort: number; readonly apiServerPort: number }): Layout {
  const certificates = join(dir, "certificates");
  return {
    certificates,
    logs: join(dir, "log"),
    data: join(dir, "etcd"),
    caFile: join(certificates, "apiserver.crt"),
    tokenFile: join(dir, "tokens.csv"),
    signingKey: join(dir, "service-account.key"),
    auditPolicy: join(dir, "audit-policy.yaml"),
    auditLog: join(dir, "audit.log"),
    kwokConfig: join(dir, "kwok.yaml"),
    kubeconfigs: {
      admin: join(dir, "kubeconfig"),
      "kube-controller-manager": join(dir, "kube-controller-manager.kubeconfig"),
      "kube-scheduler": join(dir, "kube-scheduler.kubeconfig"),
      kwok: join(dir, "kwok.kubeconfig"),
    },
    userNames: {
      admin: "admin",
      "kube-controller-manager": "system:kube-controller-manager",
      "kube-scheduler": "system:kube-scheduler",
      kwok: "kwok",
    },
    etcdUrl: `http://127.0.0.1:${ports.etcdPort}`,
    server: `https://127.0.0.1:${ports.apiServerPort}`,
    apiServerPort: ports.apiServerPort,
  };
}

export function etcdArgs(layout: Layout, isThrowaway: boolean): readonly string[] {
  return [
    `--data-dir=${layout.data}`,
    `--listen-client-urls=${layout.etcdUrl}`,
    `--advertise-client-urls=${layout.etcdUrl}`,
    "--listen-peer-urls=http://127.0.0.1:0", // There are no peers; any free port does.
    "--log-level=warn",
    "--quota-backend-bytes=4294967296",
    ...(isThrowaway ? ["--unsafe-no-fsync"] : []),
  ];
}

export function apiServerArgs(
  layout: Layout,
  o: {
    readonly issuer?: string | undefined;
    readonly authenticationConfig?: string | undefined;
    readonly tokenReviewer?: string | undefined;
  } = {},
): readonly string[] {
  return [
    "--bind-address=127.0.0.1",
    "--advertise-address=127.0.0.1",
    `--secure-port=${layout.apiServerPort}`,
    `--cert-dir=${layout.certificates}`,
    `--etcd-servers=${layout.etcdUrl}`,
    "--authorization-mode=RBAC",
    `--token-auth-file=${layout.tokenFile}`,
    `--service-account-issuer=${o.issuer ?? "https://kubernetes.default.svc"}`,
    ...(o.authenticationConfig === undefined ? [] : [`--authentication-config=${o.authenticationConfig}`]),
    ...(o.tokenReviewer === undefined
      ? []
      : [`--authentication-token-webhook-config-file=${o.tokenReviewer}`, "--authentication-token-webhook-version=v1"]),
    `--service-account-key-file=${layout.signingKey}`,
    `--service-account-signing-key-file=${layout.signingKey}`,
    "--service-cluster-ip-range=10.0.0.0/16",
    "--endpoint-reconciler-type=none",
    "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
    // Not Kubernetes' default, but OpenShift's: who blocks the deletion of an owner must be allowed to finalize it.
    "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
    `--audit-policy-file=${layout.auditPolicy}`,
    `--audit-log-path=${layout.auditLog}`,
    "--audit-log-maxsize=0", // Never rotated: tests read it from the start.
    "--max-requests-inflight=2000",
    "--max-mutating-requests-inflight=1000",
    "--profiling=false",
  ];
}

// Benchmarks measure the controller, not the patience of what runs beside it.
const unhurried = ["--kube-api-qps=2000", "--kube-api-burst=4000"];

const controllersLeftOut = [
  "node-lifecycle-controller",
  "node-ipam-controller",
  "cloud-node-lifecycle-controller",
  "service-lb-controller",
  "node-route-controller",
];

export function controllerManagerArgs(layout: Layout): readonly string[] {
  const syncs = ["deployment", "replicaset", "statefulset", "daemonset", "job", "namespace", "gc", "service-endpoint"];
  return [
    `--kubeconfig=${layout.kubeconfigs["kube-controller-manager"]}`,
    `--service-account-private-key-file=${layout.signingKey}`,
    `--controllers=*,${controllersLeftOut.map((name) => `-${name}`).join(",")}`,
    "--leader-elect=false",
    "--secure-port=0",
    ...syncs.map((name) => `--concurrent-${name}-syncs=30`),
    ...unhurried,
  ];
}

export function schedulerArgs(layout: Layout): readonly string[] {
  return [
    `--kubeconfig=${layout.kubeconfigs["kube-scheduler"]}`,
    "--leader-elect=false",
    "--secure-port=0",
    ...unhurried,
  ];
}

/** Everything at level Metadata, but for what the control plane's own programs do. */
export function auditPolicy(layout: Layout): string {
  const users = systemUsers.filter((user) => user !== "admin").map((user) => layout.userNames[user]);
  return stringify({
    apiVersion: "audit.k8s.io/v1",
    kind: "Policy",
    omitStages: ["RequestReceived"],
    rules: [
      { level: "None", users: [...users, "system:apiserver"] },
      { level: "None", nonResourceURLs: ["/readyz*", "/livez*", "/healthz*"] },
      { level: "Metadata" },
    ],
  });
}

const size = { cpu: "100k", memory: "100Ti", "ephemeral-storage": "100Ti", pods: "10000" };

/** The one node; KWOK makes it ready. */
export const simulatedNode = {
  apiVersion: "v1",
  kind: "Node",
  metadata: {
    name: "node-0",
    labels: { "kubernetes.io/hostname": "node-0", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64" },
  },
  status: {
    allocatable: size,
    capacity: size,
    addresses: [
      { type: "InternalIP", address: "127.0.0.1" },
      { type: "Hostname", address: "node-0" },
    ],
    nodeInfo: {
      architecture: "amd64",
      operatingSystem: "linux",
      kubeletVersion: "v1.36.3",
      kubeProxyVersion: "",
      containerRuntimeVersion: "kwok",
      kernelVersion: "kwok",
      osImage: "kwok",
      bootID: "",
      machineID: "",
      systemUUID: "",
    },
  },
} as const;

/** A key that signs and, read by the same program, verifies ServiceAccount tokens. Elliptic, as it is made at once. */
export async function createSigningKey(): Promise<string> {
  const { privateKey } = await promisify(generateKeyPair)("ec", { namedCurve: "P-256" });
  return privateKey.export({ type: "sec1", format: "pem" }).toString();
}

/** A kubeconfig with one context for the holder of `token`. */
export function renderKubeconfig(server: string, caPem: string, token: string): string {
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    "current-context": "local",
    clusters: [
      { name: "local", cluster: { server, "certificate-authority-data": Buffer.from(caPem).toString("base64") } },
    ],
    users: [{ name: "local", user: { token } }],
    contexts: [{ name: "local", context: { cluster: "local", user: "local" } }],
  });
}
