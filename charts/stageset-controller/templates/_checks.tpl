{{/* Combinations that cannot work fail here, by the name of the key that is to be changed. */}}
{{- define "stageset-controller.checks" -}}
{{- $v := .Values }}
{{- if lt (int $v.replicas.max) (int $v.replicas.min) }}{{ fail "replicas.max must not be less than replicas.min" }}{{ end }}
{{- if and (gt (int $v.replicas.max) 1) (not $v.controller.leaderElect) }}{{ fail "controller.leaderElect: several replicas (replicas.max) need it" }}{{ end }}
{{- $ports := dict }}
{{- $open := dict "metrics" $v.ports.metrics "health" $v.ports.health }}
{{- if $v.gate.enabled }}{{ $_ := set $open "gate" $v.ports.gate }}{{ end }}
{{- if $v.mcp.enabled }}{{ $_ := set $open "mcp" $v.ports.mcp }}{{ end }}
{{- if $v.ui.enabled }}{{ $_ := set $open "ui" $v.ports.ui }}{{ end }}
{{- if $v.webhook.enabled }}{{ $_ := set $open "webhook" $v.ports.webhook }}{{ end }}
{{- range $name, $port := $open }}
{{- $other := get $ports (toString $port) }}
{{- if $other }}{{ fail (printf "ports.%s and ports.%s are both %v" $other $name $port) }}{{ end }}
{{- $_ := set $ports (toString $port) $name }}
{{- end }}
{{- if and $v.mcp.allowMutations (not $v.mcp.enabled) }}{{ fail "mcp.allowMutations requires mcp.enabled" }}{{ end }}
{{- if and $v.serviceAccount.name (not $v.serviceAccount.create) (eq $v.serviceAccount.name "default") }}{{ fail "serviceAccount.name: the namespace's default ServiceAccount must not hold the controller's rights" }}{{ end }}
{{- if and (not $v.serviceAccount.create) (not $v.serviceAccount.name) }}{{ fail "serviceAccount.name is required with serviceAccount.create=false" }}{{ end }}
{{- if eq $v.rollbackStore.backend "s3" }}
{{- if not $v.rollbackStore.s3.endpoint }}{{ fail "rollbackStore.s3.endpoint is required with rollbackStore.backend=s3" }}{{ end }}
{{- if not $v.rollbackStore.s3.bucket }}{{ fail "rollbackStore.s3.bucket is required with rollbackStore.backend=s3" }}{{ end }}
{{- end }}
{{- if and (eq $v.rollbackStore.backend "pvc") (gt (int $v.replicas.max) 1) (not (has "ReadWriteMany" $v.rollbackStore.pvc.accessModes)) }}
{{- fail "rollbackStore.pvc.accessModes: several replicas (replicas.max) need ReadWriteMany" }}
{{- end }}
{{- $tmp := include "stageset-controller.bytes" $v.tmpSizeLimit | int64 }}
{{- if lt $tmp (mul 67108864 (int $v.controller.maxConcurrentReconciles) | int64) }}
{{- fail (printf "tmpSizeLimit: %s is less than 64Mi for each of controller.maxConcurrentReconciles (%v)" $v.tmpSizeLimit $v.controller.maxConcurrentReconciles) }}
{{- end }}
{{- with $v.resources.ephemeralStorage }}
{{- if ge $tmp (include "stageset-controller.bytes" . | int64) }}{{ fail (printf "tmpSizeLimit: %s must be less than resources.ephemeralStorage (%v)" $v.tmpSizeLimit .) }}{{ end }}
{{- end }}
{{- $n := $v.networkPolicy }}
{{- if and $n.defaultDeny.enabled (not $n.enabled) }}{{ fail "networkPolicy.defaultDeny.enabled requires networkPolicy.enabled: it would cut the controller off" }}{{ end }}
{{- if and $n.egress.enabled (not $n.enabled) }}{{ fail "networkPolicy.egress.enabled requires networkPolicy.enabled" }}{{ end }}
{{- if $n.enabled }}
{{- range $engine := list "cilium" "calico" "clusterNetworkPolicy" }}
{{- $own := index $n $engine }}
{{- if and (ne $n.engine $engine) (or $own.ingress $own.egress) }}{{ fail (printf "networkPolicy.%s: its rules are for another engine than networkPolicy.engine=%s" $engine $n.engine) }}{{ end }}
{{- if and (eq $n.engine $engine) $own.egress (not $n.egress.enabled) }}{{ fail (printf "networkPolicy.%s.egress requires networkPolicy.egress.enabled" $engine) }}{{ end }}
{{- end }}
{{- if $n.egress.enabled }}
{{- $native := list }}
{{- if ne $n.engine "kubernetes" }}{{ $native = (index $n $n.engine).egress }}{{ end }}
{{- if not (concat $n.egress.to $native) }}
{{- fail "networkPolicy.egress.to: at least one entry is required with networkPolicy.egress.enabled: without it the API server is cut off" }}
{{- end }}
{{- end }}
{{- end }}
{{- $m := $v.serviceMesh }}
{{- if and $m.defaultDeny.enabled (not $m.enabled) }}{{ fail "serviceMesh.defaultDeny.enabled requires serviceMesh.enabled" }}{{ end }}
{{- if $m.enabled }}
{{- if eq $m.engine "linkerd" }}
{{- if $m.mtls }}{{ fail "serviceMesh.mtls is for serviceMesh.engine=istio: Linkerd's mTLS is always on" }}{{ end }}
{{- if $m.istio.rules }}{{ fail "serviceMesh.istio.rules is for serviceMesh.engine=istio" }}{{ end }}
{{- if and $m.defaultDeny.enabled (not $v.namespace.create) }}{{ fail "serviceMesh.defaultDeny.enabled with Linkerd is an annotation of the Namespace: it requires namespace.create" }}{{ end }}
{{- range $port := list "gate" "metrics" "mcp" "ui" }}
{{- range (index $m $port).from }}
{{- if and .namespaces (not .principals) }}{{ fail (printf "serviceMesh.%s.from: Linkerd knows callers by identity only; `namespaces` alone cannot be expressed, give `principals`" $port) }}{{ end }}
{{- end }}
{{- end }}
{{- else if $m.linkerd.authorizations }}
{{- fail "serviceMesh.linkerd.authorizations is for serviceMesh.engine=linkerd" }}
{{- end }}
{{- end }}
{{- end }}
