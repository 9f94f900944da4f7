import type { FlagDefinition, FlagKind } from "./flag-syntax.ts";

const text: FlagKind = { type: "text" };
const boolean: FlagKind = { type: "boolean" };
const repeatable: FlagKind = { type: "repeatable" };
const positive: FlagKind = { type: "duration", minimum: "positive" };

/** A flag whose feature is not part of this build; `accepts` are its default and its off value. */
const later = (
  name: string,
  kind: FlagKind,
  value: string,
  help: string,
  accepts: readonly string[] = [value],
): FlagDefinition => ({ name, kind, default: value, help, accepts });

const flag = (name: string, kind: FlagKind, value: string, help: string): FlagDefinition => ({
  name,
  kind,
  default: value,
  help,
});

/** Every flag of the controller (spec 60 §2.2), in the order of `--help`. */
export const controllerFlags: readonly FlagDefinition[] = [
  flag("kubeconfig", text, "", "path of a kubeconfig; empty = KUBECONFIG, in-cluster, ~/.kube/config"),
  flag("metrics-bind-address", text, ":8080", "metrics listener; 0 disables"),
  flag("health-probe-bind-address", text, ":8081", "probe listener; 0 or empty disables"),
  flag("gate-bind-address", text, ":8082", "stage gate; empty disables"),
  flag("leader-elect", boolean, "false", "reconcile only while holding the lease"),
  flag("leader-election-namespace", text, "", "namespace of the lease; empty = the pod's"),
  flag("watch-namespaces", text, "", "comma list of namespaces; empty = all"),
  flag("max-concurrent-reconciles", { type: "integer", from: 1, to: 64 }, "4", "passes that do something at once"),
  flag("inventory-shard-cap", { type: "integer", from: 1, to: 10_000 }, "5000", "entries per StageInventory shard"),
  flag("default-interval", positive, "10m", "cadence of StageSets without spec.interval"),
  flag(
    "max-teardown-wait",
    { type: "duration", minimum: "zero" },
    "1h",
    "how long a failing teardown holds the finalizer; 0 = for ever",
  ),
  flag("no-cross-namespace-refs", boolean, "false", "refuse sourceRef and dependsOn into other namespaces"),
  flag("default-service-account", text, "", "identity of StageSets that name none; empty = the controller"),
  flag("require-service-account", boolean, "false", "refuse StageSets that would act as the controller"),
  flag("runbook-base-url", text, "", "template of runbook links with {id}; empty = no links"),
  flag("log-level", { type: "choice", values: ["debug", "info", "warn", "error"] }, "info", "least severe level"),
  flag("log-format", { type: "choice", values: ["json", "text"] }, "json", "format of log records"),
  flag("dev-allow-loopback", boolean, "false", "let artifacts come from loopback; for tests only, never in a pod"),
  flag("allowed-action-hosts", repeatable, "", "host globs for http actions and metric queries"),
  later("enable-webhook", boolean, "true", "admission server", ["true", "false"]),
  flag(
    "webhook-cert-mode",
    { type: "choice", values: ["cert-manager", "self-signed"] },
    "cert-manager",
    "who issues the certificate",
  ),
  flag("webhook-cert-dir", text, "/tmp/k8s-webhook-server/serving-certs", "folder of tls.crt and tls.key"),
  flag("webhook-port", { type: "integer", from: 1, to: 65_535 }, "9443", "port of the admission server"),
  flag("webhook-cert-validity", positive, "8760h", "validity of a self-signed certificate"),
  flag("webhook-service-name", text, "stageset-controller-webhook", "Service of the admission server"),
  flag("webhook-service-namespace", text, "", "its namespace; empty = the pod's"),
  flag("webhook-validating-config-name", text, "", "configuration whose caBundle is maintained"),
  flag("webhook-cert-secret", text, "", "Secret of the certificate; empty = <service>-tls"),
  later("object-level-kms", boolean, "false", "SOPS cloud KMS as the StageSet's ServiceAccount"),
  later("require-verified-migration-sources", boolean, "false", "refuse unverified migration sources"),
  later("require-pinned-migration-sources", boolean, "false", "refuse unpinned migration sources"),
  later("require-image-verification", boolean, "false", "refuse images no policy governs"),
  later("image-verification-trusted-root", text, "", "offline Sigstore trusted root"),
  later("image-verification-insecure-registry", repeatable, "", "host[:port] read over plain HTTP"),
  later(
    "image-verification-break-glass",
    { type: "choice", values: ["authorized", "any", "off"] },
    "authorized",
    "who may skip image verification",
    ["authorized", "off"],
  ),
  later("rollback-store-path", text, "", "folder of the rollback store"),
  later("rollback-store-s3-endpoint", text, "", "host:port of an S3-compatible rollback store"),
  later("rollback-store-s3-bucket", text, "", "bucket"),
  later("rollback-store-s3-prefix", text, "", "key prefix"),
  later("rollback-store-s3-region", text, "", "region"),
  flag("rollback-store-s3-use-ssl", boolean, "true", "TLS to the endpoint"),
  later("rollback-store-s3-access-key", text, "", "static credential"),
  later("rollback-store-s3-secret-key", text, "", "static credential"),
  later("rollback-store-s3-session-token", text, "", "static credential"),
  later("rollback-store-s3-anonymous", boolean, "false", "unsigned requests"),
  flag("rollback-store-s3-sse", { type: "choice", values: ["none", "s3", "kms"] }, "s3", "at-rest encryption"),
  later("rollback-store-s3-sse-kms-key", text, "", "key id for kms"),
  later("tracing-endpoint", text, "", "OTLP/gRPC host:port"),
  flag("tracing-insecure", boolean, "false", "plaintext to the collector"),
  flag("tracing-sample-ratio", { type: "number", from: 0, to: 1 }, "1.0", "share of traces kept"),
  later("enable-mcp", boolean, "false", "MCP introspection server"),
  flag("mcp-bind-address", text, ":8084", "its listener"),
  later("mcp-allow-mutations", boolean, "false", "its writing tools"),
  flag("mcp-auth", { type: "choice", values: ["none", "kubernetes"] }, "none", "its authentication"),
  later("enable-ui", boolean, "false", "read-only web UI"),
  flag("ui-bind-address", text, ":8085", "its listener"),
  flag("ui-auth", { type: "choice", values: ["none", "kubernetes"] }, "kubernetes", "its authentication"),
  later("events-addr", text, "", "URL that events are also posted to"),
  flag("fleet-rollouts", { type: "choice", values: ["auto", "on", "off"] }, "auto", "reconcile FleetRollouts"),
  later("default-kubeconfig-service-account", text, "", "identity for remote clusters"),
  later("allowed-kubeconfig-hosts", repeatable, "", "hosts of remote API servers"),
  later("insecure-kubeconfig-tls", boolean, "false", "do not verify remote API servers"),
];
