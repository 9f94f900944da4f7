import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { installCrd } from "../../src/dev/crds.ts";
import { asArray, asObject, asText, at } from "../../src/lib/json.ts";
import { readConfig } from "../../src/main/config.ts";
import { controllerFlags } from "../../src/main/flags.ts";
import { listValues } from "../../scripts/chart/value-tree.ts";
import { chartValues } from "../../scripts/chart/values.ts";
import { argsOf, chartFolder, find, named, renderChart, runHelm, tryRender } from "../support/chart.ts";
import { testCluster, uniqueNamespace } from "../support/cluster.ts";
import { foreignCrds } from "../support/foreign-kinds.ts";

const cluster = testCluster();
const { admin } = cluster;
const apiServer = { ipBlock: { cidr: "10.0.0.1/32" } };
const fluxPods = {
  namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "flux-system" } },
  podSelector: { matchExpressions: [{ key: "app", operator: "In", values: ["flagger"] }] },
};
const engines = ["kubernetes", "cilium", "calico", "clusterNetworkPolicy"] as const;
const egressRules = [apiServer, { to: [fluxPods], ports: [{ port: 80, protocol: "TCP" }] }];

/** Values by what they are about; each renders objects the API server accepts. */
const matrix: Readonly<Record<string, unknown>> = {
  defaults: {},
  "the web UI": { ui: { enabled: true } },
  "several replicas": { replicas: { min: 2, max: 2 } },
  "an autoscaler": { replicas: { min: 2, max: 5 }, podDisruptionBudget: { maxUnavailable: "50%" } },
  "watched namespaces": { controller: { watchNamespaces: ["a", "b"] }, cleanupOnDelete: { enabled: true } },
  "no webhook, no gate": { webhook: { enabled: false }, gate: { enabled: false } },
  "cert-manager": { webhook: { certMode: "cert-manager" } },
  "cert-manager with an issuer": {
    webhook: { certMode: "cert-manager", certManager: { issuerRef: { kind: "ClusterIssuer", name: "ca" } } },
  },
  "webhook options": {
    webhook: {
      failurePolicy: "Ignore",
      timeoutSeconds: 5,
      objectSelector: { matchLabels: { a: "b" } },
      namespaceSelector: { matchLabels: { c: "d" } },
      matchConditions: [{ name: "not-system", expression: "request.userInfo.username != 'x'" }],
    },
  },
  "one tenant": { rbac: { clusterAdmin: true, ledgerView: true, aggregateRoles: true } },
  "every flag": {
    controller: {
      logLevel: "debug",
      logFormat: "text",
      allowedActionHosts: ["*.example.com", "hooks"],
      noCrossNamespaceRefs: true,
      defaultServiceAccount: "deployer",
      fleetRollouts: "off",
      runbookBaseURL: "https://runbooks/{id}",
      extraArgs: ["--leader-election-namespace=elsewhere"],
    },
  },
  scheduling: {
    nodeSelector: { "kubernetes.io/os": "linux" },
    tolerations: [{ operator: "Exists" }],
    affinity: { nodeAffinity: {} },
    topologySpreadConstraints: [
      { maxSkew: 1, topologyKey: "kubernetes.io/hostname", whenUnsatisfiable: "DoNotSchedule", labelSelector: {} },
    ],
    priorityClassName: "system-cluster-critical",
    deployment: { additionalLabels: { team: "x" }, strategy: { type: "Recreate" } },
    pod: { additionalLabels: { team: "x" }, annotations: { a: "b" } },
    extraEnv: [{ name: "HTTPS_PROXY", value: "http://proxy" }],
    extraVolumes: [{ name: "more", emptyDir: {} }],
    extraVolumeMounts: [{ name: "more", mountPath: "/more" }],
    resources: { cpu: "500m", memory: "1Gi", limits: { cpu: "2" } },
    imagePullSecrets: [{ name: "pull" }],
    image: { registry: "registry.local:5000", digest: `sha256:${"0".repeat(64)}` },
    serviceAccount: { name: "own", annotations: { role: "r" } },
    fullnameOverride: "ssc",
  },
  "a namespace of the chart": { namespace: { create: true, pssLevel: "baseline" } },
  "a service monitor": { metrics: { serviceMonitor: { enabled: true, additionalLabels: { release: "prom" } } } },
  "alerts and a dashboard": {
    metrics: {
      prometheusRule: {
        enabled: true,
        labels: { release: "prom" },
        extraAlertLabels: { team: "platform" },
        runbookAnnotationKey: "runbook",
        extraRules: [{ alert: "Own", expr: "vector(1)" }],
        slo: { enabled: true },
      },
    },
    dashboards: { enabled: true, annotations: { a: "b" } },
  },
  "a dashboard of the Grafana operator": { dashboards: { enabled: true, grafanaOperator: { enabled: true } } },
  "Istio, closed": {
    serviceMesh: {
      enabled: true,
      mtls: "strict",
      defaultDeny: { enabled: true },
      gate: { from: [{ principals: ["cluster.local/ns/flagger/sa/flagger"] }, { namespaces: ["ci"] }] },
      istio: { rules: [{ to: [{ operation: { ports: ["9999"] } }] }] },
    },
  },
  "Istio, open": { serviceMesh: { enabled: true, mtls: "permissive" }, gate: { enabled: false } },
  "Linkerd, closed": {
    namespace: { create: true },
    serviceMesh: {
      enabled: true,
      engine: "linkerd",
      defaultDeny: { enabled: true },
      metrics: { from: [{ principals: ["prometheus.monitoring.serviceaccount.identity.linkerd.cluster.local"] }] },
    },
  },
  "Linkerd, open": { serviceMesh: { enabled: true, engine: "linkerd" } },
  ...Object.fromEntries(
    engines.flatMap((engine) => [
      [`${engine} policies, open`, { networkPolicy: { enabled: true, engine } }],
      [
        `${engine} policies, closed`,
        {
          networkPolicy: {
            enabled: true,
            engine,
            gate: { from: [fluxPods, { podSelector: { matchLabels: { a: "b" } } }, { namespaceSelector: {} }] },
            metrics: { from: [{ namespaceSelector: { matchLabels: { monitoring: "yes" } } }] },
            defaultDeny: { enabled: true },
            egress: { enabled: true, to: egressRules },
          },
        },
      ],
    ]),
  ),
};

describe("the chart", () => {
  let namespace = "";
  beforeAll(async () => {
    namespace = await uniqueNamespace(cluster, "chart");
    for (const name of ["a", "b"]) await admin.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name } });
    const api = { server: cluster.server, caPem: cluster.caPem, token: cluster.adminToken };
    await Promise.all(foreignCrds.map((crd) => installCrd(api, crd)));
  });

  test("[60.20] passes helm lint in strict mode", async () => {
    const { code, stdout } = await runHelm(["lint", "--strict", chartFolder]);
    expect(code, stdout).toBe(0);
  });

  test.concurrent.each(Object.keys(matrix))(
    "[60.20] objects the API server accepts, arguments the controller accepts: %s",
    async (name) => {
      const manifests = await renderChart({ namespace, values: matrix[name] });
      expect(manifests.length).toBeGreaterThan(5);
      // Server-side apply refuses fields that the server's schema does not know.
      const sent = manifests.filter(({ kind }) => kind !== "CustomResourceDefinition" || name === "defaults");
      await Promise.all(sent.map((manifest) => admin.apply(manifest, { dryRun: true })));
      const read = readConfig(argsOf(manifests), { KUBERNETES_SERVICE_HOST: "10.0.0.1" }, "test");
      expect(read.kind, JSON.stringify(read)).toBe("config");
    },
  );

  const refused: readonly (readonly [string, unknown, RegExp])[] = [
    ["an unknown key", { controller: { logLevl: "debug" } }, /controller.*logLevl/s],
    ["an unknown key at the root", { replica: 2 }, /replica/],
    ["a value outside its enum", { networkPolicy: { engine: "weave" } }, /networkPolicy\/engine/],
    ["a value of another type", { replicas: { min: "two" } }, /replicas\/min/],
    ["a duration that is none", { webhook: { certValidity: "1d" } }, /webhook\/certValidity/],
    [
      "egress without a peer",
      { networkPolicy: { enabled: true, egress: { enabled: true } } },
      /networkPolicy.egress.to/,
    ],
    ["replicas without a leader", { replicas: { min: 2, max: 2 }, controller: { leaderElect: false } }, /leaderElect/],
    ["fewer than the fewest", { replicas: { min: 3, max: 2 } }, /replicas.max/],
    ["two listeners on one port", { ports: { gate: 8080 } }, /ports\.(gate|metrics)/],
    ["a small /tmp", { tmpSizeLimit: "128Mi" }, /tmpSizeLimit/],
    ["a /tmp beyond its storage", { tmpSizeLimit: "1Gi" }, /tmpSizeLimit/],
    ["loopback in a pod", { controller: { extraArgs: ["--dev-allow-loopback"] } }, /controller.extraArgs/],
    ["an unknown flag", { controller: { extraArgs: ["--nope=1"] } }, /controller.extraArgs/],
    [
      "S3 without its bucket",
      { rollbackStore: { backend: "s3", s3: { endpoint: "s3:443" } } },
      /rollbackStore.s3.bucket/,
    ],
    [
      "a ReadWriteOnce store of two replicas",
      { rollbackStore: { backend: "pvc", pvc: { accessModes: ["ReadWriteOnce"] } }, replicas: { min: 2, max: 2 } },
      /rollbackStore.pvc.accessModes/,
    ],
    [
      "ipBlock ingress of a ClusterNetworkPolicy",
      { networkPolicy: { enabled: true, engine: "clusterNetworkPolicy", gate: { from: [apiServer] } } },
      /networkPolicy.gate.from/,
    ],
    [
      "a default deny alone",
      { networkPolicy: { defaultDeny: { enabled: true } } },
      /networkPolicy.defaultDeny.enabled/,
    ],
    [
      "rules of another engine",
      { networkPolicy: { enabled: true, cilium: { ingress: [{}] } } },
      /networkPolicy.cilium/,
    ],
    [
      "Linkerd by namespaces alone",
      { serviceMesh: { enabled: true, engine: "linkerd", gate: { from: [{ namespaces: ["ci"] }] } } },
      /serviceMesh.gate.from/,
    ],
    [
      "Linkerd's deny without the chart's namespace",
      { serviceMesh: { enabled: true, engine: "linkerd", defaultDeny: { enabled: true } } },
      /namespace.create/,
    ],
    ["writing tools without their server", { mcp: { allowMutations: true } }, /mcp.allowMutations/],
  ];
  test.concurrent.each(refused)("[60.20] refuses by the key's name: %s", async (_name, values, message) => {
    const { code, stderr } = await tryRender({ values });
    expect(code).not.toBe(0);
    expect(stderr).toMatch(message);
  });

  test("[60.20] a feature that is not part of the build is refused by the key's name", async () => {
    const features: readonly (readonly [string, string, unknown])[] = [
      ["enable-mcp", "mcp.enabled", { mcp: { enabled: true } }],
      ["enable-ui", "ui.enabled", { ui: { enabled: true } }],
      ["rollback-store-path", "rollbackStore.backend", { rollbackStore: { backend: "pvc" } }],
      ["tracing-endpoint", "controller.tracing.endpoint", { controller: { tracing: { endpoint: "otel:4317" } } }],
      ["object-level-kms", "controller.objectLevelKMS", { controller: { objectLevelKMS: true } }],
    ];
    for (const [flag, key, values] of features) {
      const isMissing = controllerFlags.some(({ name, accepts }) => name === flag && accepts !== undefined);
      const { code, stderr } = await tryRender({ values });
      expect(code === 0, `${key}: ${stderr}`).toBe(!isMissing);
      if (isMissing) expect(stderr).toContain(`${key}: `);
    }
  });

  test("[60.20] each documented example of values renders", async () => {
    const page = await readFile(join(chartFolder, "README.md"), "utf8");
    const examples = [...page.matchAll(/^```yaml\n([\s\S]*?)^```$/gm)].map((match) => match[1] ?? "");
    expect(examples.length).toBeGreaterThan(2);
    for (const example of examples) {
      const { parse } = await import("yaml");
      const { code, stderr } = await tryRender({ values: parse(example) as unknown });
      expect(code, `${example}\n${stderr}`).toBe(0);
    }
  });

  test("[60.29] every value has a description and a place in the README, the schema and values.yaml", async () => {
    const page = await readFile(join(chartFolder, "README.md"), "utf8");
    for (const { path, value } of listValues(chartValues)) {
      expect(value.description, path).not.toBe("");
      expect(page).toContain(`| \`${path}\` |`);
    }
  });

  test("every flag but --dev-allow-loopback can be reached from values", async () => {
    const flags = controllerFlags.map(({ name }) => name).filter((name) => name !== "dev-allow-loopback");
    const values = { controller: { extraArgs: flags.map((name) => `--${name}=x`) } };
    const { code, stderr } = await tryRender({ values });
    expect(code, stderr).toBe(0);
  });

  test("[60.22] gate off: no flag, port, Service or policy rule; on by default, its Service is 8082", async () => {
    const withPolicy = { networkPolicy: { enabled: true } };
    const on = await renderChart({ values: withPolicy });
    expect(argsOf(on)).toContain("--gate-bind-address=:8082");
    const service = find(on, "Service", "stageset-controller-gate");
    expect(at(service, "spec", "ports")).toEqual([{ name: "gate", port: 8082, targetPort: "gate", protocol: "TCP" }]);
    const off = await renderChart({ values: { ...withPolicy, gate: { enabled: false } } });
    expect(argsOf(off)).toContain("--gate-bind-address=");
    expect(named(off, "Service")).not.toContain("stageset-controller-gate");
    expect(JSON.stringify(off.filter(({ kind }) => kind !== "CustomResourceDefinition"))).not.toContain("8082");
  });

  test("[60.32] watched namespaces: only the entries of namespaced kinds, limited to them; else all four", async () => {
    const entriesOf = async (values: unknown): Promise<readonly unknown[]> =>
      asArray(at(find(await renderChart({ values }), "ValidatingWebhookConfiguration"), "webhooks"));
    const all = await entriesOf({ webhook: { failurePolicy: "Ignore", objectSelector: { matchLabels: { a: "b" } } } });
    expect(all.map((entry) => [at(entry, "name"), at(entry, "clientConfig", "service", "path")])).toEqual([
      ["vstageset.stages.metio.wtf", "/validate-stages-metio-wtf-v1-stageset"],
      ["vbreakglass.stages.metio.wtf", "/validate-stages-metio-wtf-v1-break-glass"],
      ["vimageverificationpolicy.stages.metio.wtf", "/validate-stages-metio-wtf-v1-imageverificationpolicy"],
      ["vfleetrollout.stages.metio.wtf", "/validate-stages-metio-wtf-v1-fleetrollout"],
    ]);
    expect(all.map((entry) => at(entry, "failurePolicy"))).toEqual(["Ignore", "Fail", "Ignore", "Ignore"]);
    expect(all.map((entry) => at(entry, "objectSelector"))).toEqual([{ matchLabels: { a: "b" } }, {}, {}, {}]);
    const scoped = await entriesOf({ controller: { watchNamespaces: ["a", "b"] } });
    expect(scoped.map((entry) => at(entry, "name"))).toEqual([
      "vstageset.stages.metio.wtf",
      "vbreakglass.stages.metio.wtf",
    ]);
    for (const entry of scoped)
      expect(at(entry, "namespaceSelector")).toEqual({
        matchExpressions: [{ key: "kubernetes.io/metadata.name", operator: "In", values: ["a", "b"] }],
      });
  });

  test("names derive from the chart, not the release; objects without a namespace end in the release's", async () => {
    const [one, other] = await Promise.all([
      renderChart({ release: "anything", namespace: "one" }),
      renderChart({ release: "else", namespace: "two" }),
    ]);
    expect(find(one, "Deployment")?.metadata.name).toBe("stageset-controller");
    const cluster = (manifests: typeof one): readonly string[] =>
      manifests
        .filter(({ kind, metadata }) => metadata.namespace === undefined && kind !== "CustomResourceDefinition")
        .map(({ kind, metadata }) => `${kind}/${metadata.name}`);
    expect(cluster(one).every((name) => name.endsWith("-one"))).toBe(true);
    expect(cluster(one).filter((name) => cluster(other).includes(name))).toEqual([]);
  });

  test("definitions stay with the cluster and equal those of config/crd", async () => {
    const crds = (await renderChart()).filter(({ kind }) => kind === "CustomResourceDefinition");
    expect(crds.length).toBe(5);
    for (const crd of crds) {
      expect(asObject(at(crd, "metadata", "annotations"))).toMatchObject({ "helm.sh/resource-policy": "keep" });
      const [plural] = crd.metadata.name.split(".");
      const { parse } = await import("yaml");
      const file = new URL(`../../config/crd/stages.metio.wtf_${plural ?? ""}.yaml`, import.meta.url);
      expect(crd["spec"]).toEqual(at(parse(await readFile(file, "utf8")), "spec"));
    }
    expect(named(await renderChart({ values: { crds: { create: false } } }), "CustomResourceDefinition")).toEqual([]);
  });

  test.each(engines)("[50.45] %s: the gate is open without `from`, and only to `from` with it", async (engine) => {
    const render = async (more: object): Promise<string> => {
      const manifests = await renderChart({ values: { networkPolicy: { enabled: true, engine, ...more } } });
      return JSON.stringify(manifests.filter(({ kind }) => kind.endsWith("NetworkPolicy")));
    };
    const open = await render({});
    const closed = await render({ gate: { from: [fluxPods] } });
    expect(open).toContain("8082");
    expect(open).not.toContain("flagger");
    expect(closed).toContain("flagger");
    expect(closed).toContain("flux-system");
    // The rule with the port has the peer beside it, and no second rule opens the port to everybody.
    expect(closed.split("8082").length).toBe(2);
  });

  test.each(engines)(
    "[60.33] %s: a rule for the UI only with `ui.enabled`, from `networkPolicy.ui.from`",
    async (engine) => {
      const render = async (values: object): Promise<string> => {
        const networkPolicy = { enabled: true, engine, ui: { from: [fluxPods] } };
        const manifests = await renderChart({ values: { networkPolicy, ...values } });
        return JSON.stringify(manifests.filter(({ kind }) => kind.endsWith("NetworkPolicy")));
      };
      expect(await render({})).not.toContain("8085");
      const closed = await render({ ui: { enabled: true } });
      expect(closed.split("8085").length).toBe(2);
      expect(closed).toContain("flagger");
      const open = await render({ ui: { enabled: true }, networkPolicy: { enabled: true, engine } });
      expect(open).toContain("8085");
      expect(open).not.toContain("flagger");
    },
  );

  test("[60.33] the UI is off unless asked for: no flag, port or Service, no right to review tokens", async () => {
    const off = await renderChart();
    const on = await renderChart({ values: { ui: { enabled: true } } });
    expect(argsOf(off).join()).not.toMatch(/(?:^|[-,])ui-|enable-ui/);
    expect(JSON.stringify(off)).not.toContain("8085");
    expect(JSON.stringify(off)).not.toContain("tokenreviews");
    expect(argsOf(on)).toEqual(
      expect.arrayContaining(["--enable-ui=true", "--ui-bind-address=:8085", "--ui-auth=kubernetes"]),
    );
    expect(find(on, "Service", "stageset-controller-ui")?.["spec"]).toMatchObject({
      ports: [{ port: 8085, targetPort: "ui" }],
    });
    const [container] = asArray(at(find(on, "Deployment"), "spec", "template", "spec", "containers"));
    expect(at(container, "ports")).toContainEqual(expect.objectContaining({ name: "ui", containerPort: 8085 }));
    expect(JSON.stringify(on)).toContain("tokenreviews");
    const open = await renderChart({ values: { ui: { enabled: true, auth: "none" }, ports: { ui: 9000 } } });
    expect(argsOf(open)).toEqual(expect.arrayContaining(["--ui-bind-address=:9000", "--ui-auth=none"]));
    expect(at(find(open, "Service", "stageset-controller-ui"), "spec", "ports")).toMatchObject([{ port: 9000 }]);
  });

  test.each(engines)("[50.45] %s: a default deny denies, egress only with egress rules", async (engine) => {
    const policies = async (egress: object): Promise<readonly unknown[]> => {
      const networkPolicy = { enabled: true, engine, defaultDeny: { enabled: true }, egress };
      const manifests = await renderChart({ values: { networkPolicy } });
      return manifests.filter(({ kind, metadata }) => kind.endsWith("NetworkPolicy") && metadata.name.includes("deny"));
    };
    const [ingressOnly] = await policies({});
    const [both] = await policies({ enabled: true, to: [apiServer] });
    const spec = (policy: unknown, ...path: readonly string[]): unknown => at(policy, "spec", ...path);
    switch (engine) {
      case "kubernetes":
        expect(spec(ingressOnly)).toEqual({ podSelector: {}, policyTypes: ["Ingress"] });
        expect(spec(both)).toEqual({ podSelector: {}, policyTypes: ["Ingress", "Egress"] });
        return;
      case "cilium":
        expect(spec(ingressOnly)).toEqual({ endpointSelector: {}, ingress: [{}] });
        expect(spec(both)).toEqual({ endpointSelector: {}, ingress: [{}], egress: [{}] });
        return;
      case "calico":
        expect(spec(ingressOnly)).toEqual({ order: 2000, selector: "all()", types: ["Ingress"] });
        expect(spec(both)).toEqual({ order: 2000, selector: "all()", types: ["Ingress", "Egress"] });
        return;
      case "clusterNetworkPolicy":
        expect(asArray(spec(ingressOnly, "ingress")).map((rule) => at(rule, "action"))).toEqual(["Deny"]);
        expect(spec(ingressOnly, "egress")).toBeUndefined();
        expect(asArray(spec(both, "egress")).map((rule) => at(rule, "action"))).toEqual(["Deny"]);
    }
  });

  test("[50.45] a ClusterNetworkPolicy ends by denying all other pods", async () => {
    const values = { networkPolicy: { enabled: true, engine: "clusterNetworkPolicy", gate: { from: [fluxPods] } } };
    const policy = find(await renderChart({ values }), "ClusterNetworkPolicy");
    const rules = asArray(at(policy, "spec", "ingress"));
    expect(rules.at(-1)).toMatchObject({ action: "Deny", from: [{ namespaces: {} }] });
    expect(at(rules.at(-1), "protocols")).toBeUndefined();
  });

  test("[50.45] egress names DNS in every engine, in the namespace told", async () => {
    for (const engine of engines) {
      const egress = { enabled: true, to: [apiServer], dnsNamespace: "dns-here" };
      const manifests = await renderChart({ values: { networkPolicy: { enabled: true, engine, egress } } });
      const text = JSON.stringify(manifests.filter(({ kind }) => kind.endsWith("NetworkPolicy")));
      expect(text, engine).toContain("dns-here");
      expect(text, engine).toMatch(/"?53"?\b/);
      expect(text.toLowerCase(), engine).toContain("udp");
    }
  });

  test("the controller's selector finds no other pod, and the cleanup Job no mesh", async () => {
    const manifests = await renderChart({ values: { cleanupOnDelete: { enabled: true } } });
    const selector = asObject(at(find(manifests, "Deployment"), "spec", "selector", "matchLabels")) ?? {};
    const labels = asObject(at(find(manifests, "Job"), "spec", "template", "metadata", "labels")) ?? {};
    expect(Object.entries(selector).every(([key, value]) => labels[key] === value)).toBe(false);
    expect(labels["sidecar.istio.io/inject"]).toBe("false");
    expect(asText(at(find(manifests, "Job"), "metadata", "annotations", "helm.sh/hook"))).toBe("pre-delete");
  });
});
