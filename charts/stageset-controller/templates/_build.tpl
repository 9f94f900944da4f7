{{/* Written by "npm run generate" from src/main/flags.ts; change it there. */}}
{{- define "stageset-controller.missingFlags" -}}
{
  "fleet-rollouts": [
    "auto",
    "off"
  ],
  "rollback-store-path": [
    ""
  ],
  "rollback-store-s3-endpoint": [
    ""
  ],
  "rollback-store-s3-bucket": [
    ""
  ],
  "rollback-store-s3-prefix": [
    ""
  ],
  "rollback-store-s3-region": [
    ""
  ],
  "rollback-store-s3-access-key": [
    ""
  ],
  "rollback-store-s3-secret-key": [
    ""
  ],
  "rollback-store-s3-session-token": [
    ""
  ],
  "rollback-store-s3-anonymous": [
    "false"
  ],
  "rollback-store-s3-sse-kms-key": [
    ""
  ],
  "enable-mcp": [
    "false"
  ],
  "mcp-allow-mutations": [
    "false"
  ]
}
{{- end }}

{{- define "stageset-controller.knownFlags" -}}
["kubeconfig","watch-namespaces","no-cross-namespace-refs","metrics-bind-address","health-probe-bind-address","gate-bind-address","leader-elect","leader-election-namespace","max-concurrent-reconciles","default-interval","inventory-shard-cap","max-teardown-wait","fleet-rollouts","default-service-account","require-service-account","allowed-action-hosts","default-kubeconfig-service-account","allowed-kubeconfig-hosts","insecure-kubeconfig-tls","object-level-kms","enable-webhook","webhook-port","webhook-cert-mode","webhook-cert-dir","webhook-cert-validity","webhook-cert-secret","webhook-service-name","webhook-service-namespace","webhook-validating-config-name","log-level","log-format","events-addr","tracing-endpoint","tracing-insecure","tracing-sample-ratio","runbook-base-url","require-verified-migration-sources","require-pinned-migration-sources","require-image-verification","image-verification-trusted-root","image-verification-insecure-registry","image-verification-break-glass","rollback-store-path","rollback-store-s3-endpoint","rollback-store-s3-bucket","rollback-store-s3-prefix","rollback-store-s3-region","rollback-store-s3-use-ssl","rollback-store-s3-access-key","rollback-store-s3-secret-key","rollback-store-s3-session-token","rollback-store-s3-anonymous","rollback-store-s3-sse","rollback-store-s3-sse-kms-key","enable-mcp","mcp-bind-address","mcp-allow-mutations","mcp-auth","enable-ui","ui-bind-address","ui-auth","dev-allow-loopback"]
{{- end }}
