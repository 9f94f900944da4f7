import { runbookBaseUrl } from "./build-info.ts";
import type { FlagDefinition, FlagKind } from "./flag-syntax.ts";

const boolean: FlagKind = { type: "boolean" };
const positive: FlagKind = { type: "duration", minimum: "positive" };
const text = (shape: string): FlagKind => ({ type: "text", shape });
const repeatable = (shape: string): FlagKind => ({ type: "repeatable", shape });
const choice = (...values: readonly string[]): FlagKind => ({ type: "choice", values });
const integer = (from: number, to: number): FlagKind => ({ type: "integer", from, to });
const address = text("[HOST]:PORT");

const flag = (name: string, kind: FlagKind, value: string, help: string): FlagDefinition => ({
  name,
  kind,
  default: value,
  help,
});

/** A flag whose feature is not part of this build; `accepts` are its default and its off value. */
const later = (
  name: string,
  kind: FlagKind,
  value: string,
  help: string,
  accepts: readonly string[] = [value],
): FlagDefinition => ({ name, kind, default: value, help, accepts });

export interface FlagSection {
  readonly title: string;
  readonly flags: readonly FlagDefinition[];
}

/** Every flag of the controller (spec 60 §2.2), in the order of `--help`. */
export const flagSections: readonly FlagSection[] = [
  {
    title: "Cluster and scope",
    flags: [
      flag(
        "kubeconfig",
        text("PATH"),
        "",
        "Kubeconfig of the API server. Empty: KUBECONFIG, in-cluster, ~/.kube/config",
      ),
      flag("watch-namespaces", text("NAME,…"), "", "Namespaces to act in, separated by commas. Empty: all"),
      flag("no-cross-namespace-refs", boolean, "false", "Refuse sourceRef and dependsOn into other namespaces"),
    ],
  },
  {
    title: "Listeners",
    flags: [
      flag("metrics-bind-address", address, ":8080", "Prometheus metrics. 0 disables, empty is the default"),
      flag("health-probe-bind-address", address, ":8081", "/healthz and /readyz. 0 or empty disables"),
      flag("gate-bind-address", address, ":8082", "The stage gate. Empty disables"),
    ],
  },
  {
    title: "Leader election",
    flags: [
      flag("leader-elect", boolean, "false", "Reconcile only while holding the lease, so that replicas can stand by"),
      flag("leader-election-namespace", text("NAMESPACE"), "", "Namespace of the lease. Empty: the pod's"),
    ],
  },
  {
    title: "Reconciling",
    flags: [
      flag("max-concurrent-reconciles", integer(1, 64), "4", "Passes that run at once; waiting ones do not count"),
      flag("default-interval", positive, "10m", "How often StageSets without spec.interval are looked at"),
      flag("inventory-shard-cap", integer(1, 10_000), "5000", "Entries per StageInventory shard"),
      flag(
        "max-teardown-wait",
        { type: "duration", minimum: "zero" },
        "1h",
        "How long a failing teardown keeps the finalizer before it is dropped. 0: for ever",
      ),
      later("fleet-rollouts", choice("auto", "on", "off"), "auto", "Reconcile FleetRollouts. auto: when cluster-wide", [
        "auto",
        "off",
      ]),
    ],
  },
  {
    title: "Tenancy",
    flags: [
      flag(
        "default-service-account",
        text("NAME"),
        "",
        "Identity of StageSets that name none. Empty: the controller's",
      ),
      flag("require-service-account", boolean, "false", "Refuse StageSets that would act as the controller itself"),
      flag(
        "allowed-action-hosts",
        repeatable("GLOB"),
        "",
        "Hosts that http actions and metric queries may reach. Empty: any",
      ),
      flag(
        "default-kubeconfig-service-account",
        text("NAME"),
        "",
        "ServiceAccount whose federation leads to remote clusters, where a ConfigMap names none",
      ),
      flag(
        "allowed-kubeconfig-hosts",
        repeatable("GLOB"),
        "",
        "Hosts of remote API servers and of proxies to them. Empty: any",
      ),
      flag("insecure-kubeconfig-tls", boolean, "false", "Accept kubeconfigs that do not verify their API server"),
      flag("object-level-kms", boolean, "false", "SOPS cloud KMS as the StageSet's ServiceAccount"),
    ],
  },
  {
    title: "Admission webhook",
    flags: [
      flag("enable-webhook", boolean, "true", "Serve admission: refuse invalid objects when they are written"),
      flag("webhook-port", integer(1, 65_535), "9443", "Port of the admission server"),
      flag(
        "webhook-cert-mode",
        choice("cert-manager", "self-signed"),
        "cert-manager",
        "Who issues the certificate: somebody who provides the files, or the controller",
      ),
      flag(
        "webhook-cert-dir",
        text("DIR"),
        "/tmp/k8s-webhook-server/serving-certs",
        "Folder of tls.crt and tls.key, read again when they change",
      ),
      flag("webhook-cert-validity", positive, "8760h", "Validity of a self-signed certificate"),
      flag("webhook-cert-secret", text("NAME"), "", "Secret of the self-signed certificate. Empty: <service>-tls"),
      flag("webhook-service-name", text("NAME"), "stageset-controller-webhook", "Service of the admission server"),
      flag("webhook-service-namespace", text("NAMESPACE"), "", "Its namespace. Empty: the pod's"),
      flag(
        "webhook-validating-config-name",
        text("NAME"),
        "",
        "ValidatingWebhookConfiguration whose caBundle is maintained; required when self-signed",
      ),
    ],
  },
  {
    title: "Logs, events, traces, runbooks",
    flags: [
      flag("log-level", choice("debug", "info", "warn", "error"), "info", "Least severe level that is written"),
      flag("log-format", choice("json", "text"), "json", "Format of log records"),
      flag("events-addr", text("URL"), "", "URL that every Event is also posted to, as JSON"),
      flag("tracing-endpoint", text("HOST:PORT"), "", "OTLP/gRPC collector. Empty: no traces"),
      flag("tracing-insecure", boolean, "false", "Send traces in plaintext"),
      flag("tracing-sample-ratio", { type: "number", from: 0, to: 1 }, "1.0", "Share of traces that are kept"),
      flag(
        "runbook-base-url",
        text("URL"),
        runbookBaseUrl,
        "Base of runbook links; {id} stands for the page. Empty: no links",
      ),
    ],
  },
  {
    title: "Migrations and images",
    flags: [
      flag("require-verified-migration-sources", boolean, "false", "Refuse unverified migration sources"),
      flag("require-pinned-migration-sources", boolean, "false", "Refuse unpinned migration sources"),
      flag("require-image-verification", boolean, "false", "Refuse images no policy governs"),
      flag(
        "image-verification-trusted-root",
        text("PATH"),
        "",
        "Offline Sigstore trusted root, read again when it changes. Empty: the public one, fetched on the first need",
      ),
      flag(
        "image-verification-insecure-registry",
        repeatable("HOST[:PORT]"),
        "",
        "Registries that images are verified at over plain HTTP",
      ),
      flag(
        "image-verification-break-glass",
        choice("authorized", "any", "off"),
        "authorized",
        "Who may ask for images not to be verified: holders of a verb, anybody, nobody",
      ),
    ],
  },
  {
    title: "Rollback store",
    flags: [
      later("rollback-store-path", text("DIR"), "", "Folder of the rollback store"),
      later("rollback-store-s3-endpoint", text("HOST:PORT"), "", "S3-compatible rollback store"),
      later("rollback-store-s3-bucket", text("NAME"), "", "Bucket"),
      later("rollback-store-s3-prefix", text("PREFIX"), "", "Key prefix"),
      later("rollback-store-s3-region", text("NAME"), "", "Region"),
      flag("rollback-store-s3-use-ssl", boolean, "true", "TLS to the endpoint"),
      later("rollback-store-s3-access-key", text("KEY"), "", "Static credential"),
      later("rollback-store-s3-secret-key", text("KEY"), "", "Static credential"),
      later("rollback-store-s3-session-token", text("TOKEN"), "", "Static credential"),
      later("rollback-store-s3-anonymous", boolean, "false", "Unsigned requests"),
      flag("rollback-store-s3-sse", choice("none", "s3", "kms"), "s3", "Encryption at rest"),
      later("rollback-store-s3-sse-kms-key", text("ID"), "", "Key id for kms"),
    ],
  },
  {
    title: "MCP and web UI",
    flags: [
      later("enable-mcp", boolean, "false", "MCP introspection server"),
      flag("mcp-bind-address", address, ":8084", "Its listener"),
      later("mcp-allow-mutations", boolean, "false", "Its writing tools; requires --enable-mcp"),
      flag("mcp-auth", choice("none", "kubernetes"), "none", "Its authentication"),
      flag("enable-ui", boolean, "false", "Read-only web UI"),
      flag("ui-bind-address", address, ":8085", "Its listener"),
      flag(
        "ui-auth",
        choice("none", "kubernetes"),
        "kubernetes",
        "Who may read it: callers with a token of the cluster, within their own rights, or whoever reaches it",
      ),
    ],
  },
  {
    title: "Development",
    flags: [
      flag(
        "dev-allow-loopback",
        boolean,
        "false",
        "Let artifacts, metric sources, registries and remote API servers be on loopback; never in a pod",
      ),
    ],
  },
];

export const controllerFlags: readonly FlagDefinition[] = flagSections.flatMap(({ flags }) => flags);
