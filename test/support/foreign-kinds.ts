/**
 * Definitions of kinds of other projects, only as large as what the chart renders of them: an unknown or mistyped field
 * is refused by the API server, as by the real definition. Written from the public references of the projects.
 */
type Schema = Readonly<Record<string, unknown>>;

const text: Schema = { type: "string" };
const integer: Schema = { type: "integer" };
const yes: Schema = { type: "boolean" };
const portValue: Schema = { "x-kubernetes-int-or-string": true };
const any: Schema = { type: "object", "x-kubernetes-preserve-unknown-fields": true };
const listOf = (items: Schema): Schema => ({ type: "array", items });
const object = (properties: Readonly<Record<string, Schema>>, required: readonly string[] = []): Schema => ({
  type: "object",
  properties,
  ...(required.length === 0 ? {} : { required }),
});
const oneOf = (...values: readonly string[]): Schema => ({ type: "string", enum: values });
const textMap: Schema = { type: "object", additionalProperties: text };
const labelSelector = object({
  matchLabels: textMap,
  matchExpressions: listOf(object({ key: text, operator: text, values: listOf(text) }, ["key", "operator"])),
});

interface ForeignKind {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly cluster?: boolean;
  readonly spec: Schema;
}

const ciliumPorts = listOf(
  object({ ports: listOf(object({ port: text, protocol: text, endPort: integer }, ["port"])) }),
);
const ciliumCidr = listOf(object({ cidr: text, except: listOf(text) }, ["cidr"]));
const calicoEntity = object({
  selector: text,
  namespaceSelector: text,
  nets: listOf(text),
  notNets: listOf(text),
  ports: listOf(portValue),
});
const calicoRule = object(
  {
    action: oneOf("Allow", "Deny", "Log", "Pass"),
    protocol: portValue,
    source: calicoEntity,
    destination: calicoEntity,
  },
  ["action"],
);
const podsPeer = object({ namespaceSelector: labelSelector, podSelector: labelSelector }, ["podSelector"]);
const clusterPort = object({
  destinationPort: object({ number: integer, range: object({ start: integer, end: integer }, ["start", "end"]) }),
});
const clusterRule = (peers: string, more: Readonly<Record<string, Schema>> = {}): Schema =>
  object(
    {
      name: { type: "string", maxLength: 100 },
      action: oneOf("Accept", "Deny", "Pass"),
      [peers]: {
        ...listOf({
          ...object({ namespaces: labelSelector, pods: podsPeer, ...more }),
          minProperties: 1,
          maxProperties: 1,
        }),
        minItems: 1,
        maxItems: 25,
      },
      protocols: {
        ...listOf({
          ...object({ tcp: clusterPort, udp: clusterPort, sctp: clusterPort }),
          minProperties: 1,
          maxProperties: 1,
        }),
        minItems: 1,
      },
    },
    ["action", peers],
  );
const reference = object({ group: text, kind: text, name: text, namespace: text }, ["kind", "name"]);

const kinds: readonly ForeignKind[] = [
  {
    group: "monitoring.coreos.com",
    version: "v1",
    kind: "ServiceMonitor",
    plural: "servicemonitors",
    spec: object(
      {
        namespaceSelector: object({ any: yes, matchNames: listOf(text) }),
        selector: labelSelector,
        endpoints: listOf(
          object({
            port: text,
            interval: text,
            honorLabels: yes,
            path: text,
            relabelings: listOf(object({ action: text, replacement: text, targetLabel: text })),
          }),
        ),
      },
      ["endpoints", "selector"],
    ),
  },
  {
    group: "monitoring.coreos.com",
    version: "v1",
    kind: "PrometheusRule",
    plural: "prometheusrules",
    spec: object({
      groups: listOf(
        object(
          {
            name: text,
            interval: text,
            rules: listOf(
              object({ alert: text, record: text, expr: portValue, for: text, labels: textMap, annotations: textMap }, [
                "expr",
              ]),
            ),
          },
          ["name"],
        ),
      ),
    }),
  },
  {
    group: "grafana.integreatly.org",
    version: "v1beta1",
    kind: "GrafanaDashboard",
    plural: "grafanadashboards",
    spec: object({ instanceSelector: labelSelector, configMapRef: object({ name: text, key: text }, ["key"]) }, [
      "instanceSelector",
    ]),
  },
  {
    group: "cert-manager.io",
    version: "v1",
    kind: "Issuer",
    plural: "issuers",
    spec: object({ selfSigned: object({ crlDistributionPoints: listOf(text) }) }),
  },
  {
    group: "cert-manager.io",
    version: "v1",
    kind: "Certificate",
    plural: "certificates",
    spec: object(
      {
        secretName: text,
        duration: text,
        dnsNames: listOf(text),
        usages: listOf(oneOf("digital signature", "key encipherment", "server auth")),
        privateKey: object({
          algorithm: oneOf("RSA", "ECDSA", "Ed25519"),
          size: integer,
          rotationPolicy: oneOf("Never", "Always"),
        }),
        issuerRef: object({ group: text, kind: text, name: text }, ["name"]),
      },
      ["issuerRef", "secretName"],
    ),
  },
  {
    group: "cilium.io",
    version: "v2",
    kind: "CiliumNetworkPolicy",
    plural: "ciliumnetworkpolicies",
    spec: object({
      endpointSelector: labelSelector,
      ingress: listOf(
        object({
          fromEndpoints: listOf(labelSelector),
          fromEntities: listOf(oneOf("all", "world", "cluster", "host", "remote-node", "kube-apiserver")),
          fromCIDRSet: ciliumCidr,
          toPorts: ciliumPorts,
        }),
      ),
      egress: listOf(
        object({
          toEndpoints: listOf(labelSelector),
          toEntities: listOf(oneOf("all", "world", "cluster", "host", "remote-node", "kube-apiserver")),
          toCIDRSet: ciliumCidr,
          toPorts: ciliumPorts,
        }),
      ),
    }),
  },
  {
    group: "projectcalico.org",
    version: "v3",
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    spec: object({
      order: { type: "number" },
      selector: text,
      types: listOf(oneOf("Ingress", "Egress")),
      ingress: listOf(calicoRule),
      egress: listOf(calicoRule),
    }),
  },
  {
    group: "policy.networking.k8s.io",
    version: "v1alpha2",
    kind: "ClusterNetworkPolicy",
    plural: "clusternetworkpolicies",
    cluster: true,
    spec: object(
      {
        tier: oneOf("Admin", "Baseline"),
        priority: { type: "integer", minimum: 0, maximum: 1000 },
        subject: {
          ...object({ namespaces: labelSelector, pods: podsPeer }),
          minProperties: 1,
          maxProperties: 1,
        },
        ingress: { ...listOf(clusterRule("from")), maxItems: 25 },
        egress: { ...listOf(clusterRule("to", { networks: listOf(text) })), maxItems: 25 },
      },
      ["priority", "subject", "tier"],
    ),
  },
  {
    group: "security.istio.io",
    version: "v1",
    kind: "AuthorizationPolicy",
    plural: "authorizationpolicies",
    spec: object({
      selector: object({ matchLabels: textMap }),
      action: oneOf("ALLOW", "DENY", "AUDIT", "CUSTOM"),
      rules: listOf(
        object({
          from: listOf(object({ source: object({ principals: listOf(text), namespaces: listOf(text) }) })),
          to: listOf(
            object({ operation: object({ ports: listOf(text), methods: listOf(text), paths: listOf(text) }) }),
          ),
        }),
      ),
    }),
  },
  {
    group: "security.istio.io",
    version: "v1",
    kind: "PeerAuthentication",
    plural: "peerauthentications",
    spec: object({
      selector: object({ matchLabels: textMap }),
      mtls: object({ mode: oneOf("UNSET", "DISABLE", "PERMISSIVE", "STRICT") }),
      portLevelMtls: {
        type: "object",
        additionalProperties: object({ mode: oneOf("UNSET", "DISABLE", "PERMISSIVE", "STRICT") }),
      },
    }),
  },
  {
    group: "policy.linkerd.io",
    version: "v1beta3",
    kind: "Server",
    plural: "servers",
    spec: object(
      {
        podSelector: labelSelector,
        port: portValue,
        proxyProtocol: oneOf("unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"),
      },
      ["port"],
    ),
  },
  {
    group: "policy.linkerd.io",
    version: "v1alpha1",
    kind: "MeshTLSAuthentication",
    plural: "meshtlsauthentications",
    spec: object({ identities: { ...listOf(text), minItems: 1 }, identityRefs: listOf(reference) }),
  },
  {
    group: "policy.linkerd.io",
    version: "v1alpha1",
    kind: "AuthorizationPolicy",
    plural: "authorizationpolicies",
    spec: object({ targetRef: reference, requiredAuthenticationRefs: listOf(reference) }, [
      "requiredAuthenticationRefs",
      "targetRef",
    ]),
  },
];

/** One CustomResourceDefinition for each kind. */
export const foreignCrds: readonly unknown[] = kinds.map(({ group, version, kind, plural, cluster, spec }) => ({
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: {
    name: `${plural}.${group}`,
    annotations: { "api-approved.kubernetes.io": "unapproved, a test's own" },
  },
  spec: {
    group,
    names: { kind, listKind: `${kind}List`, plural, singular: kind.toLowerCase() },
    scope: cluster === true ? "Cluster" : "Namespaced",
    versions: [
      {
        name: version,
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: "object", properties: { spec, status: any } } },
      },
    ],
  },
}));
