{{/*
One argument, of (flag, key of the value, value). A feature that is not part of the build is refused by the name of its key.
*/}}
{{- define "stageset-controller.flag" -}}
{{- $flag := index . 0 }}
{{- $key := index . 1 }}
{{- $value := toString (index . 2) }}
{{- $accepts := index (include "stageset-controller.missingFlags" . | fromJson) $flag }}
{{- if and $accepts (not (has $value $accepts)) }}
{{- fail (printf "%s: %q is not part of this build (flag --%s accepts only %s)" $key $value $flag (join " or " $accepts)) }}
{{- end }}
- {{ printf "--%s=%s" $flag $value | quote }}
{{- end }}

{{/* As above, when the value is neither false nor empty. */}}
{{- define "stageset-controller.flagIf" -}}
{{- if index . 2 }}{{ include "stageset-controller.flag" . }}{{ end }}
{{- end }}

{{- define "stageset-controller.args" -}}
{{- $v := .Values }}
{{- $c := $v.controller }}
{{- include "stageset-controller.flag" (list "log-level" "controller.logLevel" $c.logLevel) }}
{{- include "stageset-controller.flag" (list "log-format" "controller.logFormat" $c.logFormat) }}
{{- include "stageset-controller.flag" (list "metrics-bind-address" "ports.metrics" (printf ":%v" $v.ports.metrics)) }}
{{- include "stageset-controller.flag" (list "health-probe-bind-address" "ports.health" (printf ":%v" $v.ports.health)) }}
{{- include "stageset-controller.flag" (list "gate-bind-address" "gate.enabled" (ternary (printf ":%v" $v.ports.gate) "" $v.gate.enabled)) }}
{{- include "stageset-controller.flag" (list "leader-elect" "controller.leaderElect" $c.leaderElect) }}
{{- with $c.watchNamespaces }}{{ include "stageset-controller.flag" (list "watch-namespaces" "controller.watchNamespaces" (join "," .)) }}{{ end }}
{{- include "stageset-controller.flag" (list "max-concurrent-reconciles" "controller.maxConcurrentReconciles" $c.maxConcurrentReconciles) }}
{{- include "stageset-controller.flag" (list "inventory-shard-cap" "controller.inventoryShardCap" $c.inventoryShardCap) }}
{{- include "stageset-controller.flag" (list "default-interval" "controller.defaultInterval" $c.defaultInterval) }}
{{- include "stageset-controller.flag" (list "max-teardown-wait" "controller.maxTeardownWait" $c.maxTeardownWait) }}
{{- range $c.allowedActionHosts }}{{ include "stageset-controller.flag" (list "allowed-action-hosts" "controller.allowedActionHosts" .) }}{{ end }}
{{- include "stageset-controller.flagIf" (list "no-cross-namespace-refs" "controller.noCrossNamespaceRefs" $c.noCrossNamespaceRefs) }}
{{- include "stageset-controller.flagIf" (list "default-service-account" "controller.defaultServiceAccount" $c.defaultServiceAccount) }}
{{- include "stageset-controller.flag" (list "require-service-account" "controller.requireServiceAccount" (include "stageset-controller.requireServiceAccount" .)) }}
{{- include "stageset-controller.flag" (list "fleet-rollouts" "controller.fleetRollouts" $c.fleetRollouts) }}
{{- include "stageset-controller.flagIf" (list "runbook-base-url" "controller.runbookBaseURL" $c.runbookBaseURL) }}
{{- include "stageset-controller.flagIf" (list "object-level-kms" "controller.objectLevelKMS" $c.objectLevelKMS) }}
{{- include "stageset-controller.flagIf" (list "require-verified-migration-sources" "controller.requireVerifiedMigrationSources" $c.requireVerifiedMigrationSources) }}
{{- include "stageset-controller.flagIf" (list "require-pinned-migration-sources" "controller.requirePinnedMigrationSources" $c.requirePinnedMigrationSources) }}
{{- include "stageset-controller.flagIf" (list "require-image-verification" "controller.requireImageVerification" $c.requireImageVerification) }}
{{- if $c.imageVerification.trustedRoot.configMap }}
{{- include "stageset-controller.flag" (list "image-verification-trusted-root" "controller.imageVerification.trustedRoot.configMap" "/etc/stageset/trusted-root/trusted-root.json") }}
{{- end }}
{{- range $c.imageVerification.insecureRegistries }}{{ include "stageset-controller.flag" (list "image-verification-insecure-registry" "controller.imageVerification.insecureRegistries" .) }}{{ end }}
{{- include "stageset-controller.flag" (list "image-verification-break-glass" "controller.imageVerification.breakGlass" $c.imageVerification.breakGlass) }}
{{- if $c.tracing.endpoint }}
{{- include "stageset-controller.flag" (list "tracing-endpoint" "controller.tracing.endpoint" $c.tracing.endpoint) }}
{{- include "stageset-controller.flag" (list "tracing-insecure" "controller.tracing.insecure" $c.tracing.insecure) }}
{{- include "stageset-controller.flag" (list "tracing-sample-ratio" "controller.tracing.sampleRatio" $c.tracing.sampleRatio) }}
{{- end }}
{{- include "stageset-controller.flag" (list "enable-webhook" "webhook.enabled" $v.webhook.enabled) }}
{{- if $v.webhook.enabled }}
{{- include "stageset-controller.flag" (list "webhook-cert-mode" "webhook.certMode" $v.webhook.certMode) }}
{{- include "stageset-controller.flag" (list "webhook-cert-dir" "webhook.certMode" "/etc/webhook/certs") }}
{{- include "stageset-controller.flag" (list "webhook-port" "ports.webhook" $v.ports.webhook) }}
{{- include "stageset-controller.flag" (list "webhook-cert-validity" "webhook.certValidity" $v.webhook.certValidity) }}
{{- include "stageset-controller.flag" (list "webhook-service-name" "fullnameOverride" (printf "%s-webhook" (include "stageset-controller.fullname" .))) }}
{{- include "stageset-controller.flag" (list "webhook-service-namespace" "fullnameOverride" .Release.Namespace) }}
{{- if eq (include "stageset-controller.selfSigned" .) "true" }}
{{- include "stageset-controller.flag" (list "webhook-validating-config-name" "fullnameOverride" (include "stageset-controller.clusterName" .)) }}
{{- include "stageset-controller.flag" (list "webhook-cert-secret" "fullnameOverride" (include "stageset-controller.certSecret" .)) }}
{{- end }}
{{- end }}
{{- if $v.mcp.enabled }}
{{- include "stageset-controller.flag" (list "enable-mcp" "mcp.enabled" true) }}
{{- include "stageset-controller.flag" (list "mcp-bind-address" "ports.mcp" (printf ":%v" $v.ports.mcp)) }}
{{- include "stageset-controller.flag" (list "mcp-auth" "mcp.auth" $v.mcp.auth) }}
{{- include "stageset-controller.flagIf" (list "mcp-allow-mutations" "mcp.allowMutations" $v.mcp.allowMutations) }}
{{- end }}
{{- if $v.ui.enabled }}
{{- include "stageset-controller.flag" (list "enable-ui" "ui.enabled" true) }}
{{- include "stageset-controller.flag" (list "ui-bind-address" "ports.ui" (printf ":%v" $v.ports.ui)) }}
{{- include "stageset-controller.flag" (list "ui-auth" "ui.auth" $v.ui.auth) }}
{{- end }}
{{- if eq $v.rollbackStore.backend "pvc" }}
{{- include "stageset-controller.flag" (list "rollback-store-path" "rollbackStore.backend" $v.rollbackStore.pvc.mountPath) }}
{{- else if eq $v.rollbackStore.backend "s3" }}
{{- $s3 := $v.rollbackStore.s3 }}
{{- include "stageset-controller.flag" (list "rollback-store-s3-endpoint" "rollbackStore.backend" $s3.endpoint) }}
{{- include "stageset-controller.flag" (list "rollback-store-s3-bucket" "rollbackStore.backend" $s3.bucket) }}
{{- include "stageset-controller.flagIf" (list "rollback-store-s3-prefix" "rollbackStore.s3.prefix" $s3.prefix) }}
{{- include "stageset-controller.flagIf" (list "rollback-store-s3-region" "rollbackStore.s3.region" $s3.region) }}
{{- include "stageset-controller.flag" (list "rollback-store-s3-use-ssl" "rollbackStore.s3.useSSL" $s3.useSSL) }}
{{- include "stageset-controller.flagIf" (list "rollback-store-s3-anonymous" "rollbackStore.s3.anonymous" $s3.anonymous) }}
{{- include "stageset-controller.flag" (list "rollback-store-s3-sse" "rollbackStore.s3.sse" $s3.sse) }}
{{- include "stageset-controller.flagIf" (list "rollback-store-s3-sse-kms-key" "rollbackStore.s3.sseKmsKeyId" $s3.sseKmsKeyId) }}
{{- end }}
{{- range $c.extraArgs }}
{{- $name := regexReplaceAll "^--?([^=]+).*$" . "${1}" }}
{{- if eq $name "dev-allow-loopback" }}{{ fail "controller.extraArgs: --dev-allow-loopback is refused in a pod" }}{{ end }}
{{- if not (has $name (include "stageset-controller.knownFlags" $ | fromJsonArray)) }}{{ fail (printf "controller.extraArgs: %q is no flag of the controller" .) }}{{ end }}
- {{ . | quote }}
{{- end }}
{{- end }}
