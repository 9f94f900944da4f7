{{/* Names derive from the chart, not from the release: a release named anything yields the same objects. */}}
{{- define "stageset-controller.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "stageset-controller.fullname" -}}
{{- default (include "stageset-controller.name" .) .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Of objects without a namespace, so that releases in several namespaces do not meet. */}}
{{- define "stageset-controller.clusterName" -}}
{{- printf "%s-%s" (include "stageset-controller.fullname" .) .Release.Namespace }}
{{- end }}

{{/* Immutable, and on the controller's pods only. */}}
{{- define "stageset-controller.selectorLabels" -}}
app.kubernetes.io/name: {{ include "stageset-controller.name" . }}
app.kubernetes.io/component: controller
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: stageset-controller
{{- end }}

{{/* A value over 63 characters is no label. */}}
{{- define "stageset-controller.labels" -}}
{{ include "stageset-controller.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "stageset-controller.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "stageset-controller.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "stageset-controller.image" -}}
{{- $image := .Values.image }}
{{- $name := $image.repository }}
{{- if $image.registry }}{{ $name = printf "%s/%s" $image.registry $image.repository }}{{ end }}
{{- if $image.digest }}{{ printf "%s@%s" $name $image.digest }}{{ else }}{{ printf "%s:%s" $name (default .Chart.AppVersion $image.tag) }}{{ end }}
{{- end }}

{{/* Of the cleanup Job: what its own values leave empty is the controller's. */}}
{{- define "stageset-controller.cleanupImage" -}}
{{- $own := .Values.cleanupOnDelete.image }}
{{- if or $own.repository $own.registry $own.tag $own.digest }}
{{- $registry := default .Values.image.registry $own.registry }}
{{- $repository := default .Values.image.repository $own.repository }}
{{- $name := $repository }}
{{- if $registry }}{{ $name = printf "%s/%s" $registry $repository }}{{ end }}
{{- if $own.digest }}{{ printf "%s@%s" $name $own.digest }}{{ else }}{{ printf "%s:%s" $name (default (default .Chart.AppVersion .Values.image.tag) $own.tag) }}{{ end }}
{{- else }}
{{- include "stageset-controller.image" . }}
{{- end }}
{{- end }}

{{- define "stageset-controller.selfSigned" -}}
{{- and .Values.webhook.enabled (eq .Values.webhook.certMode "self-signed") }}
{{- end }}

{{/* The Secret of the serving pair: kept by the controller, or by cert-manager. */}}
{{- define "stageset-controller.certSecret" -}}
{{- if eq .Values.webhook.certMode "self-signed" }}
{{- printf "%s-webhook-tls" (include "stageset-controller.fullname" .) }}
{{- else }}
{{- printf "%s-webhook-cert" (include "stageset-controller.fullname" .) }}
{{- end }}
{{- end }}

{{- define "stageset-controller.requireServiceAccount" -}}
{{- $given := .Values.controller.requireServiceAccount }}
{{- if kindIs "invalid" $given }}
{{- not (or .Values.rbac.clusterAdmin (ne .Values.controller.defaultServiceAccount "")) }}
{{- else }}
{{- $given }}
{{- end }}
{{- end }}

{{/* Ingress of the controller's pods: (name, port, values with `from`) of what is served. Health has no key: kubelets have no selector. */}}
{{- define "stageset-controller.servedPorts" -}}
{{- $v := .Values }}
{{- $served := list (dict "name" "health" "port" $v.ports.health "from" list) (dict "name" "metrics" "port" $v.ports.metrics "from" $v.networkPolicy.metrics.from) }}
{{- if $v.webhook.enabled }}{{ $served = append $served (dict "name" "webhook" "port" $v.ports.webhook "from" $v.networkPolicy.webhook.from) }}{{ end }}
{{- if $v.gate.enabled }}{{ $served = append $served (dict "name" "gate" "port" $v.ports.gate "from" $v.networkPolicy.gate.from) }}{{ end }}
{{- if $v.mcp.enabled }}{{ $served = append $served (dict "name" "mcp" "port" $v.ports.mcp "from" $v.networkPolicy.mcp.from) }}{{ end }}
{{- if $v.ui.enabled }}{{ $served = append $served (dict "name" "ui" "port" $v.ports.ui "from" $v.networkPolicy.ui.from) }}{{ end }}
{{- dict "ports" $served | toJson }}
{{- end }}

{{/* `egress.to` as rules: an entry without `to` and `ports` is a peer. */}}
{{- define "stageset-controller.egressRules" -}}
{{- $rules := list }}
{{- range .Values.networkPolicy.egress.to }}
{{- if or (hasKey . "to") (hasKey . "ports") }}
{{- $rules = append $rules (dict "to" (default list .to) "ports" (default list .ports)) }}
{{- else }}
{{- $rules = append $rules (dict "to" (list .) "ports" list) }}
{{- end }}
{{- end }}
{{- dict "rules" $rules | toJson }}
{{- end }}

{{/* Requests and limits of (cpu, memory, ephemeralStorage): a value is both; without cpu 100m are requested and no limit set. */}}
{{- define "stageset-controller.resources" -}}
{{- $requests := dict }}
{{- $limits := dict }}
{{- if kindIs "invalid" .cpu }}{{ $_ := set $requests "cpu" "100m" }}
{{- else }}{{ $_ := set $requests "cpu" .cpu }}{{ $_ := set $limits "cpu" .cpu }}{{ end }}
{{- if .memory }}{{ $_ := set $requests "memory" .memory }}{{ $_ := set $limits "memory" .memory }}{{ end }}
{{- if .ephemeralStorage }}{{ $_ := set $requests "ephemeral-storage" .ephemeralStorage }}{{ $_ := set $limits "ephemeral-storage" .ephemeralStorage }}{{ end }}
{{- dict "requests" (mergeOverwrite $requests (default dict .requests)) "limits" (mergeOverwrite $limits (default dict .limits)) | toYaml }}
{{- end }}

{{/* Bytes of a quantity such as 256Mi, 1G or 1000000. */}}
{{- define "stageset-controller.bytes" -}}
{{- $text := toString . }}
{{- $number := regexFind "^[0-9]+(\\.[0-9]+)?" $text | float64 }}
{{- $unit := regexReplaceAll "^[0-9.]+" $text "" }}
{{- $factors := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- if not (hasKey $factors $unit) }}{{ fail (printf "%q is no quantity in Ki, Mi or Gi" $text) }}{{ end }}
{{- mulf $number (index $factors $unit) | int64 }}
{{- end }}

{{- define "stageset-controller.subjects" -}}
- kind: ServiceAccount
  name: {{ include "stageset-controller.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
