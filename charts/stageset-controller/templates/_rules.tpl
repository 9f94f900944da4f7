{{/* Written by "npm run generate" from scripts/chart/permissions.ts; change it there. */}}
{{- define "stageset-controller.rules.tenant" -}}
# reconcile them, hold their finalizer; annotate members of fleets
- apiGroups:
    - stages.metio.wtf
  resources:
    - stagesets
  verbs:
    - get
    - list
    - watch
    - patch
# write status
- apiGroups:
    - stages.metio.wtf
  resources:
    - stagesets/status
    - stageledgers/status
  verbs:
    - get
    - patch
    - update
# owner references that block the deletion of their StageSet
- apiGroups:
    - stages.metio.wtf
  resources:
    - stagesets/finalizers
  verbs:
    - update
# record what was applied
- apiGroups:
    - stages.metio.wtf
  resources:
    - stageinventories
  verbs:
    - get
    - list
    - watch
    - create
    - patch
    - update
    - delete
# record what ran; their spec is the operator's
- apiGroups:
    - stages.metio.wtf
  resources:
    - stageledgers
  verbs:
    - get
    - list
    - watch
    - create
# follow the sources of stages
- apiGroups:
    - source.toolkit.fluxcd.io
  resources:
    - externalartifacts
    - gitrepositories
    - ocirepositories
    - buckets
  verbs:
    - get
    - list
    - watch
# show a producer's failure at once
- apiGroups:
    - jaas.metio.wtf
  resources:
    - jsonnetsnippets
  verbs:
    - get
    - list
    - watch
# federation annotations for KMS, and for remote clusters
- apiGroups:
    - ""
  resources:
    - serviceaccounts
  verbs:
    - get
# act as the ServiceAccounts that StageSets name: worth every ServiceAccount where this is bound
- apiGroups:
    - ""
  resources:
    - serviceaccounts/token
  verbs:
    - create
# record events; event gates
- apiGroups:
    - ""
  resources:
    - events
  verbs:
    - create
    - patch
    - list
# record events
- apiGroups:
    - events.k8s.io
  resources:
    - events
  verbs:
    - create
    - patch
# restart gates, and why workloads wait, of StageSets without ServiceAccount
- apiGroups:
    - ""
  resources:
    - pods
  verbs:
    - list
{{- end }}

{{- define "stageset-controller.rules.cluster" -}}
# reconcile fleets
- apiGroups:
    - stages.metio.wtf
  resources:
    - fleetrollouts
  verbs:
    - get
    - list
    - watch
# write their status
- apiGroups:
    - stages.metio.wtf
  resources:
    - fleetrollouts/status
  verbs:
    - get
    - patch
    - update
# know the policies of images
- apiGroups:
    - stages.metio.wtf
  resources:
    - imageverificationpolicies
  verbs:
    - get
    - list
    - watch
# namespace selectors of fleets
- apiGroups:
    - ""
  resources:
    - namespaces
  verbs:
    - get
    - list
    - watch
# watch a kind of source as soon as it is installed
- apiGroups:
    - apiextensions.k8s.io
  resources:
    - customresourcedefinitions
  verbs:
    - get
    - list
    - watch
{{- if eq (include "stageset-controller.selfSigned" .) "true" }}
# keep the caBundle
- apiGroups:
    - admissionregistration.k8s.io
  resources:
    - validatingwebhookconfigurations
  resourceNames:
    - '{{ include "stageset-controller.clusterName" . }}'
  verbs:
    - get
    - update
{{- end }}
# ask whether a caller may skip image verification
- apiGroups:
    - authorization.k8s.io
  resources:
    - subjectaccessreviews
  verbs:
    - create
{{- if or .Values.mcp.enabled .Values.ui.enabled }}
# know the callers of the MCP server and the web UI
- apiGroups:
    - authentication.k8s.io
  resources:
    - tokenreviews
  verbs:
    - create
{{- end }}
{{- end }}

{{- define "stageset-controller.rules.leaderElection" -}}
# the first holder makes it
- apiGroups:
    - coordination.k8s.io
  resources:
    - leases
  verbs:
    - create
# take, renew and release it
- apiGroups:
    - coordination.k8s.io
  resources:
    - leases
  resourceNames:
    - stageset-controller.stages.metio.wtf
  verbs:
    - get
    - update
    - patch
{{- end }}

{{- define "stageset-controller.rules.webhookCert" -}}
# the first replica makes the pair
- apiGroups:
    - ""
  resources:
    - secrets
  verbs:
    - create
# all replicas serve one pair
- apiGroups:
    - ""
  resources:
    - secrets
  resourceNames:
    - '{{ include "stageset-controller.certSecret" . }}'
  verbs:
    - get
    - watch
    - update
{{- end }}
