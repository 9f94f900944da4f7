import { setTimeout as delay } from "node:timers/promises";
import { freePort } from "../../src/dev/free-port.ts";
import { createKubeClient } from "../../src/kube/client.ts";
import { tokenCredential } from "../../src/kube/credential.ts";
import { localClusterKey } from "../../src/kube/endpoint.ts";
import { type Clock, systemClock } from "../../src/lib/clock.ts";
import { asArray, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import type { CertificateConfig, WebhookConfig } from "../../src/main/config.ts";
import { startExpressions } from "../../src/main/expressions.ts";
import { startWebhook, type Webhook } from "../../src/main/start-webhook.ts";
import { wasmModules } from "../../src/main/wasm-modules.ts";
import { createLogger } from "../../src/observe/logger.ts";
import { createMetrics } from "../../src/observe/metrics.ts";
import { uniqueName, uniqueNamespace, type TestCluster } from "./cluster.ts";
import { bindInstallation, controllerToken } from "./controller-account.ts";
import { startService } from "./service.ts";
import type { Manifest } from "./test-client.ts";

/** Objects of cluster-scoped kinds are judged only with this label, set to the installation's own namespace. */
export const judgedLabel = "test.example.com/judged-by";

/** What an install of the webhook has in the cluster, without anything that serves it. */
export interface WebhookInstall {
  /** Where Service, Secret and lease are. */
  readonly namespace: string;
  readonly serviceName: string;
  readonly secretName: string;
  readonly configurationName: string;
  /** Where the Service leads to, on loopback. */
  readonly port: number;
  /** The same as flags. */
  readonly flags: readonly string[];
  readonly config: WebhookConfig;
  configuration(): Promise<KubeObject | undefined>;
  /** Decoded caBundle of each entry. */
  bundles(): Promise<readonly string[]>;
  /** Sets every caBundle; undefined removes it. */
  setBundles(pem: string | undefined): Promise<void>;
  /** Applies the configuration, without bundles. */
  register(): Promise<void>;
  unregister(): Promise<void>;
}

export interface InstallOptions {
  /** Whose StageSets are judged. */
  readonly judged: readonly string[];
  readonly validityMs?: number;
  readonly breakGlass?: WebhookConfig["breakGlass"];
  /** Default true. */
  readonly registered?: boolean;
  /** Default: one of its own, for a single server. */
  readonly port?: number;
}

/**
 * The configuration, asking a Service that leads to loopback: the API server then checks the certificate for
 * the Service's name, as in any cluster.
 */
export async function installWebhook(cluster: TestCluster, options: InstallOptions): Promise<WebhookInstall> {
  const { admin } = cluster;
  const namespace = await uniqueNamespace(cluster, "webhook");
  const port = options.port ?? (await freePort());
  const serviceName = "stageset-controller-webhook";
  const configurationName = uniqueName("stageset-controller");
  const secretName = `${serviceName}-tls`;
  await admin.create({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: serviceName, namespace },
    spec: { type: "ExternalName", externalName: "127.0.0.1" },
  });
  const ref = {
    apiVersion: "admissionregistration.k8s.io/v1",
    kind: "ValidatingWebhookConfiguration",
    metadata: { name: configurationName },
  };
  const manifest = manifestOf(ref, { namespace, serviceName, port, judged: options.judged });
  const configuration = (): Promise<KubeObject | undefined> => admin.get(ref);
  const validityMs = options.validityMs ?? 8_760 * 3_600_000;
  const install: WebhookInstall = {
    namespace,
    serviceName,
    secretName,
    configurationName,
    port,
    flags: [
      "--enable-webhook=true",
      `--webhook-port=${port}`,
      "--webhook-cert-mode=self-signed",
      `--webhook-service-namespace=${namespace}`,
      `--webhook-validating-config-name=${configurationName}`,
      `--webhook-cert-validity=${validityMs}ms`,
    ],
    config: {
      host: "127.0.0.1",
      port,
      breakGlass: options.breakGlass ?? "authorized",
      certificate: {
        mode: "self-signed",
        serviceName,
        serviceNamespace: namespace,
        secretName,
        configurationName,
        validityMs,
      },
    },
    configuration,
    async bundles() {
      return asArray(at(await configuration(), "webhooks")).map((entry) =>
        Buffer.from(asText(at(entry, "clientConfig", "caBundle")) ?? "", "base64").toString(),
      );
    },
    async setBundles(pem) {
      const path = (index: number): string => `/webhooks/${index}/clientConfig/caBundle`;
      const value = pem === undefined ? "" : Buffer.from(pem).toString("base64");
      const entries = asArray(at(await configuration(), "webhooks"));
      const patch = entries.map((_entry, index) => ({ op: "add", path: path(index), value }));
      await admin.patch(ref, patch, { type: "json" });
    },
    register: async () => {
      await admin.create(manifest);
    },
    unregister: () => admin.delete(ref),
  };
  await bindInstallation(cluster, { namespace, configurationName });
  if (options.registered ?? true) await install.register();
  return install;
}

/** The path of an entry, the resources it is asked about and its further fields; as the chart renders them. */
const entries = [
  { name: "vstageset", path: "stageset", resource: "stagesets" },
  { name: "vimageverificationpolicy", path: "imageverificationpolicy", resource: "imageverificationpolicies" },
  { name: "vfleetrollout", path: "fleetrollout", resource: "fleetrollouts" },
  { name: "vbreakglass", path: "break-glass", resource: "stagesets" },
] as const;
const key = "'stages.metio.wtf/skip-image-verification'";
const bringsAnnotation = `has(object.metadata.annotations) && ${key} in object.metadata.annotations &&
  (oldObject == null || !has(oldObject.metadata.annotations) || !(${key} in oldObject.metadata.annotations) ||
  oldObject.metadata.annotations[${key}] != object.metadata.annotations[${key}])`;

function manifestOf(
  ref: Manifest,
  o: {
    readonly namespace: string;
    readonly serviceName: string;
    readonly port: number;
    readonly judged: readonly string[];
  },
): Manifest {
  const webhooks = entries.map(({ name, path, resource }) => ({
    name: `${name}.stages.metio.wtf`,
    admissionReviewVersions: ["v1"],
    sideEffects: "None",
    timeoutSeconds: 10,
    failurePolicy: "Fail",
    clientConfig: {
      service: {
        name: o.serviceName,
        namespace: o.namespace,
        port: o.port,
        path: `/validate-stages-metio-wtf-v1-${path}`,
      },
    },
    rules: [
      {
        apiGroups: ["stages.metio.wtf"],
        apiVersions: ["v1"],
        resources: [resource],
        operations: ["CREATE", "UPDATE"],
      },
    ],
    // Other tests write to the same cluster.
    ...(resource === "stagesets"
      ? {
          namespaceSelector: {
            matchExpressions: [{ key: "kubernetes.io/metadata.name", operator: "In", values: o.judged }],
          },
        }
      : { objectSelector: { matchLabels: { [judgedLabel]: o.namespace } } }),
    ...(name === "vbreakglass"
      ? { matchConditions: [{ name: "brings-annotation", expression: bringsAnnotation }] }
      : {}),
  }));
  return { ...ref, webhooks };
}

/** One replica's webhook, without the rest of the controller. */
export interface Replica extends AsyncDisposable {
  readonly webhook: Webhook;
  /** Whether it may rotate the certificate; at first it may not. */
  leads: boolean;
  readonly port: number;
  /** One record per line, as JSON. */
  readonly logs: readonly string[];
  /** The value of a series without labels. */
  metric(name: string): Promise<number>;
}

/** Starts a replica on a port of its own; requests to the API server keep the machine's time. */
export async function startReplica(
  cluster: TestCluster,
  install: WebhookInstall,
  o: {
    readonly clock?: Clock;
    readonly token?: string;
    readonly port?: number;
    readonly certificate?: CertificateConfig;
  } = {},
): Promise<Replica> {
  const stack = new AsyncDisposableStack();
  const port = o.port ?? (await freePort());
  const clock = o.clock ?? systemClock;
  const logs: string[] = [];
  const logger = createLogger({ level: "debug", format: "json", clock, write: (line) => void logs.push(line) });
  const metrics = createMetrics({ version: "test", commit: "test", workers: 1 });
  const client = stack.use(
    createKubeClient({
      endpoint: { key: localClusterKey, server: cluster.server, caPem: cluster.caPem },
      credential: tokenCredential(o.token ?? (await controllerToken(cluster))),
      identity: "controller",
    }),
  );
  const state = { leads: false };
  const cel = startExpressions(stack, { modules: wasmModules(() => undefined), clock: systemClock });
  const webhook = stack.use(
    startWebhook({
      webhook: { ...install.config, port, ...(o.certificate === undefined ? {} : { certificate: o.certificate }) },
      config: { crossNamespace: "allowed", allowLoopback: false, allowedActionHosts: [] },
      namespace: install.namespace,
      client,
      cel,
      metrics,
      leads: () => state.leads,
      onFailed: (why) => logger.error(why),
      clock,
      logger,
    }),
  );
  return Object.assign(state, {
    webhook,
    port,
    logs,
    async metric(name: string) {
      const { body } = await metrics.render("prometheus");
      return Number(new RegExp(`^${name} (.+)$`, "m").exec(body)?.[1] ?? NaN);
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  });
}

/** What kube-proxy does: new connections go to the ready endpoints in turn, open ones stay where they are. */
export interface Front extends AsyncDisposable {
  readonly port: number;
  endpoints: readonly number[];
}

export async function startFront(): Promise<Front> {
  const service = await startService();
  let endpoints: readonly number[] = [];
  return {
    port: service.port,
    get endpoints() {
      return endpoints;
    },
    set endpoints(ports) {
      endpoints = ports;
      service.offer(ports.map((port) => `https://127.0.0.1:${port}`));
    },
    [Symbol.asyncDispose]: () => service[Symbol.asyncDispose](),
  };
}

/** Creates StageSets one after another until stopped; what the API server refused. */
export interface AdmissionLoad {
  readonly created: number;
  readonly failures: readonly string[];
  stop(): Promise<void>;
}

export function createConstantly(cluster: TestCluster, namespace: string): AdmissionLoad {
  const state: { created: number; readonly failures: string[] } = { created: 0, failures: [] };
  let stopped = false;
  const run = async (): Promise<void> => {
    while (!stopped) {
      const name = uniqueName("load");
      const spec = { suspend: true, stages: [{ name: "web", sourceRef: { name: "app" } }] };
      try {
        await cluster.admin.create({
          apiVersion: "stages.metio.wtf/v1",
          kind: "StageSet",
          metadata: { name, namespace },
          spec,
        });
        state.created++;
      } catch (error) {
        state.failures.push(String(error));
      }
      await delay(20);
    }
  };
  const running = run();
  return Object.assign(state, {
    stop: () => {
      stopped = true;
      return running;
    },
  });
}
