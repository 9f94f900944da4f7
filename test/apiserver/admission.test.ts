import { generateKeyPairSync } from "node:crypto";
import { request } from "node:https";
import { connect } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asArray, asObject, asText, at } from "../../src/lib/json.ts";
import { installWebhook, judgedLabel, startReplica, type WebhookInstall } from "../support/admission.ts";
import { find, renderChart } from "../support/chart.ts";
import {
  createServiceAccount,
  eventually,
  testCluster,
  uniqueName,
  uniqueNamespace,
  type TestServiceAccount,
} from "../support/cluster.ts";
import { createStageSet, stageSetRef, startTestController, type TestController } from "../support/controller.ts";
import { TestApiError, type Manifest } from "../support/test-client.ts";
import { ruleRows, schemaRows, warningRows } from "./invalid-spec-rows.ts";

const cluster = testCluster();
const { admin } = cluster;
const sourceRef = { name: "app" };
const sound = { stages: [{ name: "web", sourceRef }] };
const skip = "stages.metio.wtf/skip-image-verification";

let namespace: string;
let install: WebhookInstall;
let controller: TestController;

beforeAll(async () => {
  namespace = await uniqueNamespace(cluster);
  install = await installWebhook(cluster, { judged: [namespace] });
  controller = await startTestController(cluster, {
    // It watches nothing: what is stored here stays as it was written.
    namespaces: [await uniqueNamespace(cluster)],
    config: {
      webhook: install.config,
      allowLoopback: false,
      crossNamespace: "refused",
      allowedActionHosts: ["prometheus"],
    },
  });
  await eventually(() => controller.running.isReady(), { timeoutMs: 60_000 });
});
afterAll(() => controller[Symbol.asyncDispose]());

interface Written {
  readonly status: number;
  readonly message: string;
  readonly warnings: readonly string[];
}

/** Creates a StageSet as a user would, with what the API server says beside the object. */
function write(spec: unknown, name = uniqueName(), token = cluster.adminToken): Promise<Written> {
  return create({ ...stageSetRef(namespace, name), ...(spec === undefined ? {} : { spec }) }, token);
}

async function create(manifest: Manifest, token = cluster.adminToken): Promise<Written> {
  const { apiVersion, kind, metadata } = manifest;
  const path = await admin.path({
    apiVersion,
    kind,
    ...(metadata.namespace === undefined ? {} : { namespace: metadata.namespace }),
  });
  return send(new URL(path, cluster.server), {
    body: JSON.stringify(manifest),
    headers: { authorization: `Bearer ${token}` },
    ca: cluster.caPem,
  });
}

interface Sent {
  readonly body: string | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
  readonly ca: string;
  readonly method?: string;
  readonly servername?: string;
}

function send(
  url: URL,
  { body, headers = {}, ca, method = "POST", servername }: Sent,
): Promise<Written & { json: unknown }> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, {
      method,
      ca,
      agent: false,
      ...(servername === undefined ? {} : { servername }),
      headers: { "content-type": "application/json", "content-length": Buffer.byteLength(body), ...headers },
    });
    outgoing.once("error", reject);
    outgoing.once("response", (incoming) => {
      const chunks: Buffer[] = [];
      incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
      incoming.once("end", () => {
        const text = Buffer.concat(chunks).toString();
        const json: unknown = text.startsWith("{") ? JSON.parse(text) : undefined;
        const warnings = [...(incoming.headers["warning"] ?? "").matchAll(/299 - "((?:[^"\\]|\\.)*)"/g)];
        resolve({
          status: incoming.statusCode ?? 0,
          json,
          message: asText(at(json, "message")) ?? "",
          warnings: warnings.map(([, quoted = ""]) => quoted.replace(/\\(.)/g, "$1")),
        });
      });
    });
    outgoing.end(body);
  });
}

/** Asks the webhook itself, as the API server does. */
async function review(
  path: string,
  o: Partial<Sent> & { readonly review?: unknown },
): Promise<Written & { json: unknown }> {
  const [ca = ""] = await install.bundles();
  const servername = `${install.serviceName}.${install.namespace}.svc`;
  const body = o.body ?? JSON.stringify(o.review);
  return send(new URL(path, `https://127.0.0.1:${install.port}`), { ...o, body, ca, servername });
}

const stageSetPath = "/validate-stages-metio-wtf-v1-stageset";
const reviewOf = (object: unknown, more: object = {}): unknown => ({
  apiVersion: "admission.k8s.io/v1",
  kind: "AdmissionReview",
  request: { uid: "u-1", operation: "CREATE", namespace, name: "shop", object, userInfo: { username: "u" }, ...more },
});

async function refusalOf(work: Promise<unknown>): Promise<TestApiError> {
  const error: unknown = await work.catch((thrown: unknown) => thrown);
  if (!(error instanceof TestApiError)) throw new Error(`not refused: ${JSON.stringify(error)}`);
  return error;
}

/** The text or number a path of a spec leads to; undefined where it leads to something else, or to nothing. */
function valueAt(spec: unknown, path: string): string | undefined {
  const steps = [...path.replace(/^spec\.?/, "").matchAll(/\["([^"]*)"\]|\[(\d+)\]|([^.[\]]+)/g)];
  const value = steps.reduce<unknown>(
    (at, [, key, index, name]) =>
      index === undefined ? asObject(at)?.[key ?? name ?? ""] : asArray(at)[Number(index)],
    spec,
  );
  return typeof value === "string" || typeof value === "number" ? String(value) : undefined;
}

describe("StageSets", () => {
  test.each(ruleRows.map(([rule, spec, path], index) => ({ rule, spec, path, index })))(
    "[10.9] $rule: $path is denied (row $index)",
    async ({ spec, path }) => {
      const { status, message } = await write(spec);
      expect(message).toContain(path);
      const value = valueAt(spec, path);
      if (value !== undefined) expect(message).toContain(value);
      expect(message).toContain('"vstageset.stages.metio.wtf" denied the request');
      expect(status).toBe(403);
    },
  );

  test.each(schemaRows.map(([rule, spec, path], index) => ({ rule, spec, path, index })))(
    "[10.9] $rule: $path is denied also where no schema refuses it (row $index)",
    async ({ spec, path }) => {
      const { json } = await review(stageSetPath, { review: reviewOf({ ...stageSetRef(namespace, "shop"), spec }) });
      expect(at(json, "response")).toMatchObject({
        uid: "u-1",
        allowed: false,
        status: { code: 403, reason: "Forbidden" },
      });
      expect(asText(at(json, "response", "status", "message"))).toContain(path);
    },
  );

  test("[10.9] V3, [10.15] a name that is no label value is denied on creation, with the limit named", async () => {
    const { status, message } = await write(sound, "a".repeat(64));
    expect(status).toBe(403);
    expect(message).toMatch(/metadata\.name .*63/);
    expect((await write(sound, "a".repeat(63))).status).toBe(201);
    const longStage = await write({ stages: [{ name: "a".repeat(64), sourceRef }] });
    expect(longStage.status).toBe(422);
    expect(longStage.message).toContain("63");
  });

  test("[10.10] one denial lists every violation", async () => {
    const stages = [{ name: "web", sourceRef: { name: "" }, path: ".." }];
    const { status, message } = await write({ stages, version: { value: "latest" } });
    expect(status).toBe(403);
    for (const path of ["spec.stages[0].sourceRef.name", "spec.stages[0].path", "spec.version.value"])
      expect(message).toContain(path);
    const many = Array.from({ length: 30 }, () => ({ name: "web", sourceRef }));
    expect((await write({ stages: many })).message).toMatch(/spec\.stages\[20\]\.name.*and 9 more$/);
  });

  test.each(warningRows.map(([rule, spec, path], index) => ({ rule, spec, path, index })))(
    "[10.11] $rule: the warning about $path reaches the client, and the StageSet is stored (row $index)",
    async ({ spec, path }) => {
      const { status, message, warnings } = await write(spec);
      expect(status, message).toBe(201);
      expect(warnings).toEqual([expect.stringContaining(path)]);
    },
  );

  test("[10.11] warnings are at most 15 of at most 256 characters", async () => {
    const host = `https://${"a".repeat(60)}.example.org`;
    const pre = Array.from({ length: 20 }, (_, index) => ({
      name: `${"n".repeat(150)}-${index}`,
      http: { url: host },
    }));
    const spec = { stages: [{ name: "web", sourceRef, actions: { pre } }] };
    const { json } = await review(stageSetPath, { review: reviewOf({ ...stageSetRef(namespace, "shop"), spec }) });
    const warnings = asArray(at(json, "response", "warnings")).map(String);
    expect(at(json, "response", "allowed")).toBe(true);
    expect(warnings).toHaveLength(15);
    for (const warning of warnings) expect(Array.from(warning).length).toBeLessThanOrEqual(256);
    expect(warnings.at(-1)).toContain("6 more");
  });

  test("[10.16] schedules without a fixed time are denied, and one that never comes is a warning, within 1 s", async () => {
    const began = performance.now();
    const window = (schedule: string) => ({ ...sound, updateWindows: [{ type: "Allow", schedule, duration: "1h" }] });
    for (const schedule of ["TZ=UTC", "@every 1h", "0 0 * * 7"]) {
      const { status, message } = await write(window(schedule));
      expect(status).toBe(403);
      expect(message).toContain(`"${schedule}"`);
    }
    const { status, warnings } = await write(window("0 0 31 4 *"));
    expect(status).toBe(201);
    expect(warnings).toEqual([expect.stringContaining("spec.updateWindows[0].schedule")]);
    const over = { type: "Allow", from: "2020-01-01T00:00:00Z", to: "2020-01-02T00:00:00Z" };
    const expired = await write({ ...sound, updateWindows: [over] });
    expect(expired.status).toBe(201);
    expect(expired.warnings).toEqual([expect.stringContaining("spec.updateWindows[0].to")]);
    expect(performance.now() - began).toBeLessThan(5_000);
  });

  test("[10.17] bounds upside down, a threshold that is no number, and loopback in disguise are denied", async () => {
    const source = { prometheus: { address: "http://prometheus:9090", query: "up" } };
    const checks = [{ name: "errors", source, threshold: { min: "2", max: "1" } }];
    const bounds = await write({ stages: [{ name: "web", sourceRef, promotion: { analysis: { checks } } }] });
    expect(bounds.status).toBe(403);
    expect(bounds.message).toContain("min");
    const budget = await write({ ...sound, errorBudget: { source, freezeThreshold: "NaN" } });
    expect(budget.status).toBe(403);
    expect(budget.message).toContain('"NaN"');
    const webhook = { url: "http://0x7f000001", jsonPath: ".a" };
    const loopback = await write({ ...sound, errorBudget: { source: { webhook }, freezeThreshold: "0.1" } });
    expect(loopback.status).toBe(403);
    expect(loopback.message).toContain("0x7f000001");
  });

  describe("stored while nobody asked", () => {
    const invalid = { stages: [{ name: "web", path: "..", sourceRef }] };
    let old: string;
    beforeAll(async () => {
      old = uniqueName("old");
      await install.unregister();
      await eventually(async () => (await write(invalid, old)).status === 201);
      await install.register();
      await eventually(() => controller.running.isReady(), { timeoutMs: 60_000 });
      await eventually(async () => (await write(invalid)).status === 403);
    });

    test("[10.12], [50.39] suspend, annotations and finalizers change freely, anything else is denied, and it can be deleted", async () => {
      const ref = stageSetRef(namespace, old);
      await admin.patch(ref, { spec: { suspend: true } });
      await admin.patch(ref, { spec: { suspend: null } });
      await admin.patch(ref, { metadata: { annotations: { "example.com/note": "x" } } });
      await admin.patch(ref, { metadata: { finalizers: ["example.com/hold"] } });
      const refused = await refusalOf(admin.patch(ref, { spec: { interval: "5m" } }));
      expect(refused).toMatchObject({ status: 403, reason: "Forbidden" });
      await admin.delete(ref);
      // Being deleted, it may even change what stays invalid.
      await admin.patch(ref, { spec: { interval: "5m" } });
      await admin.patch(ref, { metadata: { finalizers: [] } });
      await eventually(async () => (await admin.get(ref)) === undefined);
    });

    test("[10.12] a fix is admitted", async () => {
      const object = { ...stageSetRef(namespace, "shop"), spec: sound };
      for (const oldObject of [{ ...object, spec: invalid }, { ...object, spec: 7 }, "no object", null]) {
        const { json } = await review(stageSetPath, { review: reviewOf(object, { operation: "UPDATE", oldObject }) });
        expect(at(json, "response", "allowed")).toBe(true);
      }
    });
  });

  test("[10.13] a spec that is removed is denied", async () => {
    const name = uniqueName();
    expect((await write(sound, name)).status).toBe(201);
    const removal = admin.patch(stageSetRef(namespace, name), [{ op: "remove", path: "/spec" }], { type: "json" });
    expect(await refusalOf(removal)).toMatchObject({ status: 403, reason: "Forbidden" });
    expect((await admin.get(stageSetRef(namespace, name)))?.["spec"]).toEqual(sound);
  });
});

describe("policies and fleets", () => {
  const metadata = (): Manifest["metadata"] => ({ name: uniqueName(), labels: { [judgedLabel]: install.namespace } });
  const policy = (spec: object): Promise<unknown> =>
    admin.create({ apiVersion: "stages.metio.wtf/v1", kind: "ImageVerificationPolicy", metadata: metadata(), spec });
  const fleet = (spec: object): Promise<unknown> =>
    admin.create({
      apiVersion: "stages.metio.wtf/v1",
      kind: "FleetRollout",
      metadata: metadata(),
      spec: { selector: { matchLabels: { a: "b" } }, waves: [{ name: "one", selector: {} }], ...spec },
    });
  const publicKey = generateKeyPairSync("ec", { namedCurve: "P-256" })
    .publicKey.export({ type: "spki", format: "pem" })
    .toString();
  const images = ["ghcr.io/example/**"];
  const keyless = { issuer: "https://issuer.example.org", subject: "someone" };
  const authorities = [{ key: { publicKey } }];

  test.each<readonly [path: string, spec: object]>([
    ["spec.images[0]", { images: [" "], authorities }],
    ["spec.skip[0]", { images, skip: [" "], authorities }],
    ["spec.authorities", { images }],
    ["spec.requireAttestations", { images, authorities, requireAttestations: [{ predicateType: "https://x" }] }],
    ["spec.authorities[0]", { images, authorities: [{}] }],
    ["spec.authorities[0]", { images, authorities: [{ key: { publicKey }, keyless }] }],
    ["spec.authorities[0].keyless", { images, authorities: [{ keyless: { ...keyless, issuerRegExp: "^a$" } }] }],
    ["spec.authorities[0].keyless", { images, authorities: [{ keyless: { issuer: "https://a" } }] }],
    [
      "spec.authorities[0].keyless.subjectRegExp",
      { images, authorities: [{ keyless: { issuer: "https://a", subjectRegExp: "(?=a)" } }] },
    ],
    ["spec.authorities[0].key.publicKey", { images, authorities: [{ key: { publicKey: "no key" } }] }],
  ])("[50.39] a policy is denied for %s %#", async (path, spec) => {
    const refused = await refusalOf(policy(spec));
    expect(refused).toMatchObject({ status: 403, reason: "Forbidden" });
    expect(refused.message).toContain(`vimageverificationpolicy.stages.metio.wtf" denied the request: ${path}`);
  });

  test("[10.11] V35: the warning about a pattern without ends reaches the client, and the policy is stored", async () => {
    const { status, warnings } = await create({
      apiVersion: "stages.metio.wtf/v1",
      kind: "ImageVerificationPolicy",
      metadata: metadata(),
      spec: { images, authorities: [{ keyless: { issuer: "https://a", subjectRegExp: "someone" } }] },
    });
    expect(status).toBe(201);
    expect(warnings).toEqual([expect.stringContaining("spec.authorities[0].keyless.subjectRegExp")]);
  });

  test("[10.11] V33: the warning about a selector of everything reaches the client, and the fleet is stored", async () => {
    const { status, warnings } = await create({
      apiVersion: "stages.metio.wtf/v1",
      kind: "FleetRollout",
      metadata: metadata(),
      spec: { selector: {}, waves: [{ name: "one", selector: {} }] },
    });
    expect(status).toBe(201);
    expect(warnings).toEqual([expect.stringContaining("spec.selector")]);
  });

  test("[50.39] sound policies are stored", async () => {
    await policy({ images, authorities });
    await policy({ images, authorities: [{ keyless: { issuerRegExp: "^https://a$", subject: "b" } }] });
  });

  test.each<readonly [path: string, spec: object]>([
    ["spec.waves[1].name", { waves: ["a", "a"].map((name) => ({ name, selector: {} })) }],
    ["spec.waves[0].name", { waves: [{ name: "", selector: {} }] }],
    ["spec.selector.matchExpressions[0].operator", { selector: { matchExpressions: [{ key: "a", operator: "Is" }] } }],
    ["spec.targetVersion", { targetVersion: "latest" }],
    ["spec.previousVersion", { targetVersion: "1.0.0", previousVersion: "1.0.0" }],
    [
      "spec.waves[0].gate.source.prometheus.secretRef",
      gate({ source: { prometheus: { address: "http://prometheus", query: "up", secretRef: { name: "s" } } } }),
    ],
    ["spec.waves[0].gate.threshold", gate({ threshold: {} })],
    ["spec.waves[0].gate.source", gate({ source: {} })],
  ])("[50.39] a fleet is denied for %s %#", async (path, spec) => {
    const refused = await refusalOf(fleet(spec));
    expect(refused).toMatchObject({ status: 403, reason: "Forbidden" });
    expect(refused.message).toContain(path);
  });

  test("[60.10] the entry of a default chart install has a policy with an unsupported field refused", async () => {
    const rendered = find(await renderChart(), "ValidatingWebhookConfiguration");
    const name = "vimageverificationpolicy.stages.metio.wtf";
    const shipped = asArray(rendered?.["webhooks"]).find((entry) => at(entry, "name") === name);
    expect(at(shipped, "failurePolicy")).toBe("Fail");
    const configuration = await install.configuration();
    // Where the test's Service leads and whom it judges; all else is the chart's.
    const webhooks = asArray(configuration?.["webhooks"]).map((entry) =>
      at(entry, "name") === name
        ? {
            ...asObject(shipped),
            objectSelector: at(entry, "objectSelector"),
            clientConfig: {
              ...asObject(at(entry, "clientConfig")),
              service: {
                ...asObject(at(entry, "clientConfig", "service")),
                path: at(shipped, "clientConfig", "service", "path"),
              },
            },
          }
        : entry,
    );
    if (configuration === undefined) throw new Error("no configuration");
    await admin.replace({ ...configuration, metadata: { ...configuration.metadata }, webhooks });
    const requireAttestations = [{ predicateType: "https://slsa.dev/provenance/v1" }];
    await eventually(async () => {
      const refused = await refusalOf(policy({ images, authorities, requireAttestations }));
      expect(refused).toMatchObject({ status: 403, reason: "Forbidden" });
      expect(refused.message).toContain("spec.requireAttestations");
      return true;
    });
  });

  test("a sound fleet is stored", async () => {
    await fleet({ targetVersion: "2.0.0", previousVersion: "1.0.0", onRegression: "Rollback" });
  });
});

function gate(change: object): object {
  const source = { prometheus: { address: "http://prometheus", query: "up" } };
  return { waves: [{ name: "one", selector: {}, gate: { source, threshold: { max: "1" }, ...change } }] };
}

describe("break glass", () => {
  let tenant: TestServiceAccount;
  let operator: TestServiceAccount;
  const editing = [{ apiGroups: ["stages.metio.wtf"], resources: ["stagesets"], verbs: ["*"] }];
  beforeAll(async () => {
    const verbs = ["get", "create", "patch", "update"];
    const rules = [{ ...editing[0], apiGroups: ["stages.metio.wtf"], resources: ["stagesets"], verbs }];
    tenant = await createServiceAccount(cluster, { namespace, name: "tenant", rules });
    operator = await createServiceAccount(cluster, { namespace, name: "operator", rules: editing });
  });

  test("[50.35] the annotation is denied to a tenant and admitted for who may; removing it and everything else is free", async () => {
    const ref = stageSetRef(namespace, uniqueName());
    await createStageSet(cluster, { namespace, name: ref.metadata.name, spec: sound });
    const annotate = (value: string | null): object => ({ metadata: { annotations: { [skip]: value } } });
    const asTenant = cluster.as(tenant.token);
    const asOperator = cluster.as(operator.token);
    const refused = await refusalOf(asTenant.patch(ref, annotate("outage")));
    expect(refused).toMatchObject({ status: 403, reason: "Forbidden" });
    expect(refused.message).toContain(skip);
    await asOperator.patch(ref, annotate("outage"));
    await asTenant.patch(ref, { spec: { interval: "5m" } });
    expect((await refusalOf(asTenant.patch(ref, annotate("another")))).status).toBe(403);
    await asTenant.patch(ref, annotate(null));
    const created = asTenant.create({
      ...stageSetRef(namespace, uniqueName()),
      metadata: { namespace, name: uniqueName(), annotations: { [skip]: "x" } },
      spec: sound,
    });
    expect((await refusalOf(created)).status).toBe(403);
  });

  /** What an admin, who may everything, is told where the webhook runs like this. */
  const toldElsewhere = async (o: { readonly breakGlass?: "off"; readonly mayAsk?: false }): Promise<string> => {
    const judged = await uniqueNamespace(cluster);
    const elsewhere = await installWebhook(cluster, { judged: [judged], ...o });
    const account = await createServiceAccount(cluster, {
      namespace: elsewhere.namespace,
      name: "cannot-ask",
      rules: [{ apiGroups: [""], resources: ["secrets"], verbs: ["create", "get", "watch", "update"] }],
      clusterRules: [
        {
          apiGroups: ["admissionregistration.k8s.io"],
          resources: ["validatingwebhookconfigurations"],
          verbs: ["get", "update"],
        },
      ],
    });
    const token = o.mayAsk === false ? { token: account.token } : {};
    await using replica = await startReplica(cluster, elsewhere, { port: elsewhere.port, ...token });
    await eventually(() => replica.webhook.isReady(), { timeoutMs: 60_000 });
    const ref = stageSetRef(judged, "shop");
    await createStageSet(cluster, { namespace: judged, name: "shop", spec: sound });
    const refused = await refusalOf(admin.patch(ref, { metadata: { annotations: { [skip]: "outage" } } }));
    expect(refused).toMatchObject({ status: 403, reason: "Forbidden" });
    return refused.message;
  };

  test.concurrent("where it is off, nobody may, and the flag is named", async () => {
    expect(await toldElsewhere({ breakGlass: "off" })).toContain("--image-verification-break-glass=off");
  });

  test.concurrent("where the SubjectAccessReview fails, nobody may, and why is said", async () => {
    expect(await toldElsewhere({ mayAsk: false })).toContain("which cannot be checked: Forbidden");
  });
});

describe("protocol", () => {
  const valid = (): unknown => reviewOf({ ...stageSetRef(namespace, "shop"), spec: sound });

  test("what is no review is told apart", async () => {
    const of = async (path: string, o: Parameters<typeof review>[1]): Promise<number> => (await review(path, o)).status;
    expect(await of(stageSetPath, { review: valid(), headers: { "content-type": "text/plain" } })).toBe(400);
    expect(await of(stageSetPath, { body: "{" })).toBe(400);
    expect(await of(stageSetPath, { review: { ...Object(valid()), apiVersion: "admission.k8s.io/v1beta1" } })).toBe(
      400,
    );
    expect(await of("/validate-other", { review: valid() })).toBe(404);
    expect(await of(stageSetPath, { review: valid(), method: "PUT" })).toBe(405);
    expect(await of(stageSetPath, { body: Buffer.alloc(7 * 1024 * 1024 + 1, 32) })).toBe(413);
    expect(
      await of(stageSetPath, { review: valid(), headers: { "content-type": "application/json; charset=utf-8" } }),
    ).toBe(200);
  });

  test("deletions, the status and what is read tolerantly pass", async () => {
    const broken = { ...stageSetRef(namespace, "shop"), spec: 7 };
    for (const more of [{ operation: "DELETE", object: null, oldObject: broken }, { subResource: "status" }]) {
      const { json } = await review(stageSetPath, { review: reviewOf(broken, more) });
      expect(at(json, "response")).toEqual({ uid: "u-1", allowed: true });
    }
    const { json } = await review(stageSetPath, { review: reviewOf(broken) });
    expect(asText(at(json, "response", "status", "message"))).toBe("spec is 7, want an object");
  });

  test("TLS 1.1 is refused, 1.2 and 1.3 are spoken", async () => {
    const speak = (version: "TLSv1.1" | "TLSv1.2" | "TLSv1.3"): Promise<string> =>
      new Promise((resolve, reject) => {
        const o = {
          minVersion: version,
          maxVersion: version,
          rejectUnauthorized: false,
          ciphers: "DEFAULT@SECLEVEL=0",
        };
        const socket = connect({ host: "127.0.0.1", port: install.port, ...o }, () => {
          resolve(socket.getProtocol() ?? "");
          socket.destroy();
        });
        socket.once("error", reject);
      });
    await expect(speak("TLSv1.1")).rejects.toThrow();
    expect(await speak("TLSv1.2")).toBe("TLSv1.2");
    expect(await speak("TLSv1.3")).toBe("TLSv1.3");
  });

  test("requests are counted by webhook and code", async () => {
    await review(stageSetPath, { review: valid() });
    const page = await controller.metrics();
    expect(page).toMatch(
      /controller_runtime_webhook_requests_total\{webhook="\/validate-stages-metio-wtf-v1-stageset",code="200"\} [1-9]/,
    );
    expect(page).toMatch(/controller_runtime_webhook_latency_seconds_count\{webhook="[^"]+stageset"\} [1-9]/);
    expect(page).toMatch(/controller_runtime_webhook_requests_in_flight\{webhook="[^"]+stageset"\} 0/);
    expect(page).toMatch(/stageset_webhook_cert_not_after_seconds [1-9]/);
    expect(page).toMatch(/stageset_webhook_cert_renewal_failures_total \d/);
    expect(page).toMatch(/certwatcher_read_certificate_total [1-9]/);
  });
});
