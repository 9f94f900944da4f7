import {
  amount,
  choice,
  duration,
  flagValue,
  free,
  group,
  integer,
  list,
  objectItem,
  optionalFlag,
  quantity,
  share,
  text,
  textItem,
  textMap,
  window,
  type ChartGroup,
  type ChartValue,
  type ValueSchema,
} from "./value-tree.ts";

const port = (value: number, of: string): ChartValue =>
  integer(value, { from: 1, to: 65_535 }, `Port of ${of}, of the container and of its Service.`);

const peer: ValueSchema = {
  type: "object",
  additionalProperties: false,
  minProperties: 1,
  properties: {
    namespaceSelector: { type: "object" },
    podSelector: { type: "object" },
    ipBlock: {
      type: "object",
      additionalProperties: false,
      required: ["cidr"],
      properties: { cidr: { type: "string" }, except: { type: "array", items: { type: "string" } } },
    },
  },
};
const from = (who: string): ChartGroup =>
  group(`Who may reach ${who}.`, {
    from: list(peer, "Peers (namespaceSelector, podSelector, ipBlock); empty = any. Translated for every engine."),
  });
const native = (engine: string, more: Readonly<Record<string, ChartValue>> = {}): ChartGroup =>
  group(`Rules in the words of ${engine}, appended as they are.`, {
    ingress: list(objectItem, "Ingress rules, appended as they are."),
    egress: list(objectItem, "Egress rules, appended as they are; they count as `egress.to`."),
    ...more,
  });
const identities: ValueSchema = {
  type: "object",
  additionalProperties: false,
  minProperties: 1,
  properties: {
    principals: { type: "array", items: textItem, minItems: 1 },
    namespaces: { type: "array", items: textItem, minItems: 1 },
  },
};
const meshFrom = (who: string): ChartGroup =>
  group(`Who may reach ${who} inside the mesh.`, {
    from: list(
      identities,
      "Callers, each by `principals` (Istio principals, Linkerd identities) and `namespaces` (Istio only); empty = any.",
    ),
  });
const resourcesOf = (cpu: string, memory: string, ephemeralStorage: string): ChartGroup =>
  group("Requests and limits of the Job's container.", {
    cpu: quantity(cpu, "CPU request and limit."),
    memory: quantity(memory, "Memory request and limit."),
    ephemeralStorage: quantity(ephemeralStorage, "Ephemeral storage request and limit."),
  });

const imageMembers = (pulled: string): Readonly<Record<string, ChartValue>> => ({
  registry: text(pulled === "" ? "" : "ghcr.io", "Registry of the image."),
  repository: text(pulled, "Repository of the image."),
  tag: text("", pulled === "" ? "Tag." : "Tag; empty = the chart's appVersion."),
  digest: text("", "Digest (`sha256:…`); wins over the tag.", { pattern: "^(sha256:[0-9a-f]{64})?$" }),
  pullPolicy: choice(
    pulled === "" ? "" : "IfNotPresent",
    pulled === "" ? ["", "Always", "IfNotPresent", "Never"] : ["Always", "IfNotPresent", "Never"],
    "When the image is pulled.",
  ),
});

const controller = group("What the controller is told; each of these is a flag.", {
  logLevel: choice("info", ["debug", "info", "warn", "error"], "Least severe level that is logged."),
  logFormat: choice("json", ["json", "text"], "Format of log records."),
  leaderElect: flagValue(true, "One replica at a time runs releases, guarded by a Lease."),
  defaultInterval: duration("10m", "Cadence of StageSets without `spec.interval`."),
  inventoryShardCap: integer(5000, { from: 1, to: 10_000 }, "Entries of one StageInventory shard."),
  maxConcurrentReconciles: integer(4, { from: 1, to: 64 }, "Passes that do something at once."),
  maxTeardownWait: duration("1h", "How long a failing teardown holds the finalizer; `0s` = for ever."),
  allowedActionHosts: list(textItem, "Host globs for http actions and metric queries; empty = any permitted host."),
  watchNamespaces: list(
    { type: "string", pattern: "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$" },
    "Namespaces to watch; empty = all. The tenant rules are then bound in these namespaces only.",
  ),
  noCrossNamespaceRefs: flagValue(false, "Refuse `sourceRef` and `dependsOn` into other namespaces."),
  defaultServiceAccount: text("", "ServiceAccount of StageSets that name none."),
  requireServiceAccount: optionalFlag(
    "Refuse StageSets that would act as the controller. Null = true unless `rbac.clusterAdmin` or `controller.defaultServiceAccount` is set.",
  ),
  objectLevelKMS: flagValue(false, "SOPS cloud KMS under the StageSet's ServiceAccount."),
  requireVerifiedMigrationSources: flagValue(false, "Migration ladders run only from verified sources."),
  requirePinnedMigrationSources: flagValue(
    false,
    "Migration ladders run only from sources pinned by digest or commit.",
  ),
  requireImageVerification: flagValue(false, "Refuse images that no ImageVerificationPolicy matches."),
  imageVerification: group("How image signatures are verified.", {
    trustedRoot: group("Offline Sigstore trust.", {
      configMap: text(
        "",
        "ConfigMap of the release namespace with the key `trusted-root.json`; empty = the public root.",
      ),
    }),
    insecureRegistries: list(textItem, "`host[:port]` read over plain HTTP, when verifying only."),
    breakGlass: choice("authorized", ["authorized", "any", "off"], "Who may skip image verification by annotation."),
  }),
  fleetRollouts: choice(
    "auto",
    ["auto", "on", "off"],
    "Reconcile FleetRollouts; auto = only without `watchNamespaces`.",
  ),
  runbookBaseURL: text("", "Template of runbook links, `{id}` is replaced; empty = the build's."),
  tracing: group("Traces; the flags are rendered only with an endpoint.", {
    endpoint: text("", "OTLP/gRPC `host:port`; empty = off."),
    insecure: flagValue(false, "Plaintext to the collector."),
    sampleRatio: share(1.0, "Share of traces kept."),
  }),
  extraArgs: list(
    { type: "string", pattern: "^--?[A-Za-z]" },
    "Further flags (`--name=value`), after the chart's own; every flag but `--dev-allow-loopback`.",
  ),
});

/** Thresholds and `for` durations of the alerts (spec 60 §10). */
const thresholds = group("Thresholds of the alerts, and how long each must hold.", {
  reconcileErrorRate: amount(0.1, "Failed passes a second."),
  reconcileErrorDuration: window("10m", "StageSetReconcileErrorsHigh."),
  workqueueDepth: amount(50, "StageSets waiting for a worker."),
  workqueueDuration: window("15m", "StageSetControllerWorkqueueDepthHigh."),
  memoryPressureDuration: window("10m", "StageSetControllerMemoryShort."),
  reconcileLatencySeconds: amount(30, "p99 of pass time, seconds."),
  reconcileLatencyDuration: window("15m", "StageSetReconcileLatencyHigh."),
  podDownDuration: window("5m", "StageSetControllerPodDown."),
  webhookCertRenewalFailuresPerHour: amount(1, "Failed certificate renewals an hour."),
  webhookCertRenewalFailuresDuration: window("30m", "StageSetWebhookCertRenewalFailing."),
  watchEngagementFailuresPerHour: amount(1, "Failed watch starts an hour, by kind."),
  watchEngagementFailuresDuration: window("30m", "StageSetWatchEngagementFailing."),
  budgetFrozenDuration: window("15m", "StageSetBudgetFrozen, StageSetStageBudgetFrozen."),
  promotionBlockedDuration: window("10m", "StageSetPromotionBlocked."),
  promotionPendingDuration: window("1h", "StageSetPromotionStuck."),
  metricSourceErrorsPerHour: amount(3, "Failed metric queries an hour."),
  metricSourceErrorsDuration: window("15m", "StageSetMetricSourceUnavailable."),
  waitingDuration: window("1h", "StageSetWaitingTooLong."),
  noLeaderDuration: window("2m", "StageSetNoLeader."),
});

/** Every value of the chart (spec 60 §12.2). `values.yaml`, `values.schema.json` and the README's table follow from it. */
export const chartValues: ChartGroup = group("Values of the chart.", {
  nameOverride: text("", "Replaces the chart's name in the names of objects."),
  fullnameOverride: text("", "Replaces the names of objects as a whole; wins over `nameOverride`."),
  crds: group("CustomResourceDefinitions.", {
    create: flagValue(true, "Render them. They and all their objects stay when the release is uninstalled."),
  }),
  image: group("The controller's image.", imageMembers("metio/stageset-controller")),
  imagePullSecrets: list(objectItem, "Pull secrets of the pods."),
  serviceAccount: group("The controller's own identity.", {
    create: flagValue(true, "Render the ServiceAccount."),
    name: text("", "Its name; empty = derived."),
    annotations: textMap("Annotations, such as a cloud role."),
  }),
  replicas: group("Replicas; an autoscaler is rendered when max > min.", {
    min: integer(1, { from: 1 }, "Fewest replicas."),
    max: integer(1, { from: 1 }, "Most replicas."),
  }),
  ports: group("Ports of the container and of the Services.", {
    metrics: port(8080, "the metrics"),
    health: port(8081, "the probes (no Service)"),
    gate: port(8082, "the stage gate"),
    mcp: port(8084, "the MCP server"),
    ui: port(8085, "the web UI"),
    webhook: integer(9443, { from: 1, to: 65_535 }, "Port of the admission server's container; its Service is 443."),
  }),
  controller,
  rbac: group("Rights.", {
    clusterAdmin: flagValue(false, "Bind the controller to cluster-admin: for clusters with one tenant."),
    ledgerView: flagValue(false, "Aggregate reading StageLedgers into `view`."),
    aggregateRoles: flagValue(false, "Roles for users: view and edit aggregate, operator is to be bound."),
    extraRules: list(objectItem, "Further rules of the tenant role, such as producer kinds to watch."),
  }),
  cleanupOnDelete: group("A Job that takes the StageSets along before the release is uninstalled.", {
    enabled: flagValue(false, "Run it. Without it StageSets, workloads and CRDs stay."),
    policy: choice(
      "Orphan",
      ["Orphan", "Delete"],
      "Orphan: StageSets go, their workloads stay. Delete: the workloads of EVERY StageSet in scope go too.",
    ),
    kubectlTimeout: duration("2m", "How long to wait for the StageSets to go; past it the uninstall fails."),
    activeDeadlineSeconds: integer(600, { from: 1 }, "Bound of the Job."),
    backoffLimit: integer(2, { from: 0 }, "Retries of the Job."),
    image: group(
      "Image of the Job, which needs `/usr/bin/stagesetctl`; empty keys = the controller's.",
      imageMembers(""),
    ),
    resources: resourcesOf("100m", "64Mi", "16Mi"),
  }),
  gate: group("The stage gate.", {
    enabled: flagValue(true, "Serve it: flag, port, Service and policy rules."),
  }),
  mcp: group("The MCP introspection server.", {
    enabled: flagValue(false, "Serve it."),
    allowMutations: flagValue(false, "Add its writing tools."),
    auth: choice("none", ["none", "kubernetes"], "Its authentication."),
    service: group("Its Service.", { enabled: flagValue(true, "Render it.") }),
  }),
  ui: group("The read-only web UI.", {
    enabled: flagValue(false, "Serve it: flag, port, Service and policy rules."),
    auth: choice("kubernetes", ["none", "kubernetes"], "Its authentication."),
  }),
  webhook: group("Admission.", {
    enabled: flagValue(true, "Check StageSets when they are written; the reconciler checks them either way."),
    certMode: choice("self-signed", ["self-signed", "cert-manager"], "Who issues the certificate."),
    certValidity: text("8760h", "Validity of a certificate, renewed at a third.", { pattern: "^[0-9]+(s|m|h)$" }),
    certManager: group("With certMode cert-manager.", {
      issuerRef: group("Issuer of the certificate.", {
        kind: choice("Issuer", ["Issuer", "ClusterIssuer"], "Its kind."),
        name: text("", "Its name; empty = the chart renders a self-signed Issuer."),
      }),
    }),
    failurePolicy: choice("Fail", ["Fail", "Ignore"], "What happens to a StageSet while no replica answers."),
    sideEffects: choice("None", ["None", "NoneOnDryRun"], "Declared side effects."),
    timeoutSeconds: integer(10, { from: 1, to: 30 }, "How long the API server waits for an answer."),
    objectSelector: free("Objects the StageSet entry is asked about."),
    namespaceSelector: free(
      "Namespaces the StageSet entry is asked about; `controller.watchNamespaces` narrows it further.",
    ),
    matchConditions: list(objectItem, "CEL conditions of the StageSet entry."),
  }),
  rollbackStore: group("Where revisions are kept for rollback.", {
    backend: choice("none", ["none", "pvc", "s3"], "Kind of store."),
    pvc: group("With backend pvc.", {
      size: text("1Gi", "Size of the claim."),
      storageClass: text("", "Storage class; empty = the cluster's default."),
      accessModes: list(textItem, "Access modes; ReadWriteOnce allows one replica.", ["ReadWriteMany"]),
      mountPath: text("/var/lib/stageset/rollback", "Where it is mounted."),
    }),
    s3: group("With backend s3.", {
      endpoint: text("", "`host:port`."),
      bucket: text("", "Bucket."),
      prefix: text("", "Key prefix."),
      region: text("", "Region."),
      existingSecret: text("", "Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN."),
      useSSL: flagValue(true, "TLS to the endpoint."),
      anonymous: flagValue(false, "Unsigned requests."),
      sse: choice("s3", ["none", "s3", "kms"], "Encryption at rest."),
      sseKmsKeyId: text("", "Key for sse kms."),
    }),
  }),
  metrics: group("Prometheus.", {
    serviceMonitor: group("A ServiceMonitor of the Prometheus operator.", {
      enabled: flagValue(false, "Render it."),
      interval: window("30s", "Scrape interval."),
      additionalLabels: textMap("Further labels."),
    }),
    prometheusRule: group("A PrometheusRule of the Prometheus operator.", {
      enabled: flagValue(false, "Render it."),
      interval: window("30s", "Evaluation interval."),
      labels: textMap("Further labels of the object."),
      annotations: textMap("Annotations of the object."),
      extraAlertLabels: textMap("Labels added to every alert."),
      runbookAnnotationKey: text("runbook_url", "Annotation that holds the runbook link.", { minLength: 1 }),
      extraRules: list(objectItem, "Rules of the group `stageset-extras`, as they are."),
      thresholds,
      slo: group("Recording rules of the SLIs and burn-rate alerts.", {
        enabled: flagValue(false, "Render them."),
        availabilityTarget: share(0.99, "Objective of SLO 1."),
        latencyTarget: amount(30, "Objective of SLO 2, seconds."),
      }),
    }),
  }),
  dashboards: group("The Grafana dashboard.", {
    enabled: flagValue(false, "Render a ConfigMap with it."),
    labels: textMap("Labels by which a sidecar finds it.", { grafana_dashboard: "1" }),
    annotations: textMap("Annotations."),
    grafanaOperator: group("The Grafana operator.", {
      enabled: flagValue(false, "Render a GrafanaDashboard instead of labels for a sidecar."),
    }),
  }),
  networkPolicy: group("Who may reach the controller, and whom it may reach.", {
    enabled: flagValue(false, "Render policies."),
    engine: choice("kubernetes", ["kubernetes", "cilium", "calico", "clusterNetworkPolicy"], "Whose policies."),
    defaultDeny: group("Deny everything else in the release namespace, for all pods there.", {
      enabled: flagValue(false, "Render it."),
      order: integer(2000, { from: 0 }, "Order (calico) or priority (clusterNetworkPolicy, which ends at 1000)."),
    }),
    webhook: from("the admission server"),
    metrics: from("the metrics"),
    gate: from("the stage gate"),
    mcp: from("the MCP server"),
    ui: from("the web UI"),
    additionalIngress: list(objectItem, "Ingress rules in the engine's own words, appended as they are."),
    cilium: native("Cilium"),
    calico: native("Calico"),
    clusterNetworkPolicy: native("ClusterNetworkPolicy", {
      priority: integer(1000, { from: 0, to: 1000 }, "Priority of the policy."),
    }),
    egress: group("Whom the controller may reach.", {
      enabled: flagValue(false, "Deny egress but what is listed."),
      dns: flagValue(true, "Allow DNS."),
      dnsNamespace: text("kube-system", "Where DNS runs.", { minLength: 1 }),
      to: list(
        objectItem,
        "Peers, or rules `{to: [peers], ports: [{port, protocol}]}`; the API server must be among them.",
      ),
    }),
  }),
  serviceMesh: group("Authorization inside a mesh.", {
    enabled: flagValue(false, "Render policies."),
    engine: choice("istio", ["istio", "linkerd"], "Which mesh."),
    mtls: choice("", ["", "permissive", "strict"], "PeerAuthentication (Istio)."),
    gate: meshFrom("the stage gate"),
    metrics: meshFrom("the metrics"),
    mcp: meshFrom("the MCP server"),
    ui: meshFrom("the web UI"),
    istio: group("Istio.", { rules: list(objectItem, "Rules of the AuthorizationPolicy, appended as they are.") }),
    linkerd: group("Linkerd.", { authorizations: list(objectItem, "Whole Linkerd objects, appended as they are.") }),
    defaultDeny: group("Deny everything else in the namespace.", { enabled: flagValue(false, "Render it.") }),
  }),
  namespace: group("The release namespace, where another tool owns the release record.", {
    create: flagValue(false, "Render the Namespace."),
    pssLevel: choice("restricted", ["privileged", "baseline", "restricted"], "Enforced Pod Security Standard."),
  }),
  resources: group("Requests and limits: a value sets both.", {
    cpu: quantity(null, "Null = a request of 100m and no limit."),
    memory: quantity("512Mi", "Memory."),
    ephemeralStorage: quantity("320Mi", "Ephemeral storage."),
    requests: free("Replaces single requests."),
    limits: free("Replaces single limits."),
  }),
  tmpSizeLimit: text("256Mi", "Size of /tmp; below ephemeralStorage, at least 64Mi for each concurrent reconcile.", {
    pattern: "^[0-9]+(Ki|Mi|Gi)$",
  }),
  podSecurityContext: free("Security of the pod.", {
    runAsNonRoot: true,
    fsGroup: 65_532,
    fsGroupChangePolicy: "OnRootMismatch",
    seccompProfile: { type: "RuntimeDefault" },
  }),
  securityContext: free("Security of the container.", {
    runAsUser: 65_532,
    runAsGroup: 65_532,
    runAsNonRoot: true,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ["ALL"] },
  }),
  nodeSelector: textMap("Nodes the pods may run on."),
  tolerations: list(objectItem, "Tolerations."),
  affinity: free("Affinity."),
  topologySpreadConstraints: list(
    objectItem,
    "How replicas spread; with several replicas and none given: over hosts and zones, if possible.",
  ),
  priorityClassName: text("", "Priority class of the pods."),
  deployment: group("The Deployment.", {
    additionalLabels: textMap("Further labels."),
    revisionHistoryLimit: integer(10, { from: 0 }, "Old ReplicaSets that are kept."),
    strategy: free("Update strategy; empty = surge 1, unavailable 0 (Recreate with a ReadWriteOnce store)."),
  }),
  pod: group("The pods.", {
    additionalLabels: textMap("Further labels."),
    annotations: textMap("Annotations."),
  }),
  extraEnv: list(objectItem, "Further environment variables."),
  extraVolumes: list(objectItem, "Further volumes."),
  extraVolumeMounts: list(objectItem, "Further mounts."),
  podDisruptionBudget: group("Rendered with more than one replica.", {
    minAvailable: integerOrPercent(1, "Fewest available pods."),
    maxUnavailable: integerOrPercent(null, "Most unavailable pods; wins over minAvailable."),
    unhealthyPodEvictionPolicy: choice("", ["", "IfHealthyBudget", "AlwaysAllow"], "When unready pods are evicted."),
  }),
  autoscaling: group("The autoscaler.", {
    targetCPUUtilizationPercentage: integer(80, { from: 1, to: 100 }, "CPU it aims at, of the request."),
  }),
});

function integerOrPercent(defaultValue: number | null, description: string): ChartValue {
  return {
    node: "value",
    default: defaultValue,
    schema: { type: ["integer", "string", "null"], minimum: 0, pattern: "^[0-9]+%$" },
    description,
  };
}
