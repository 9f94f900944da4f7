import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asObject, asText, at } from "../../src/lib/json.ts";
import { startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { eventually, testCluster, type TestCluster } from "../support/cluster.ts";
import { controllerToken } from "../support/controller-account.ts";
import { configMap, messageOf, readyOf, untilReady } from "../support/controller.ts";
import { startFaultProxy, type FaultProxy } from "../support/fault-proxy.ts";
import { startOtlpCollector, type OtlpCollector } from "../support/otlp-collector.ts";
import { startReceiver, type Receiver } from "../support/http-receiver.ts";
import { kubeConfigText } from "../support/remote.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster: TestCluster = testCluster();
const { admin } = cluster;
/** In Secrets of the cluster, in headers and in URLs. */
const canary = "c4n4ry-5ecret";
/** In a Secret whose manifest is in the artifact, which is on disk as it came. */
const shipped = "c4n4ry-5hipped";

/** What an input is used in. */
interface Inputs {
  readonly stage?: Readonly<Record<string, unknown>>;
  readonly spec?: Readonly<Record<string, unknown>>;
}

/** The part of spec 50 §14.46 whose inputs and outputs exist. */
describe("secrets that run through every input there is, with failures everywhere", () => {
  let collector: OtlpCollector;
  let scene: Scene;
  let proxy: FaultProxy;
  let elsewhere: ArtifactServer;
  let receiver: Receiver;
  let disk = "";
  /** What TokenRequests gave. */
  const minted = new Set<string>();
  const temporary = process.env["TMPDIR"];

  beforeAll(async () => {
    disk = await mkdtemp(join(tmpdir(), "canaries-"));
    process.env["TMPDIR"] = disk;
    process.env["OTEL_EXPORTER_OTLP_HEADERS"] = `x-canary=${canary}`;
    collector = await startOtlpCollector();
    elsewhere = await startArtifactServer();
    proxy = await startFaultProxy(cluster);
    proxy.onAnswer = ({ target }, _status, body) => {
      if (!/\/serviceaccounts\/[^/]+\/token$/.test(target)) return;
      const token = asText(at(JSON.parse(body), "status", "token"));
      if (token !== undefined) minted.add(token);
    };
    proxy.onCall = ({ method, target, authorization }, body) => {
      if (method === "GET") return undefined;
      // A reply cut in the middle: what parses JSON likes to quote it.
      if (target.includes("/secrets/truncated?")) return { kind: "truncate" };
      // Something in between that answers with what it was sent.
      if (target.includes("/secrets/echoed?"))
        return { kind: "answer", status: 500, body: { message: `cannot handle ${authorization} with ${body}` } };
      if (target.includes("/configmaps/echoed?"))
        return { kind: "answer", status: 200, body: `not an object: ${authorization} ${body}` };
      // A body that would pass for what was applied.
      if (target.includes("/secrets/redirected?")) {
        const applied = {
          apiVersion: "v1",
          kind: "Secret",
          metadata: { name: "redirected", uid: "u", resourceVersion: "1" },
        };
        return { kind: "answer", status: 307, body: applied, headers: { location: `${elsewhere.url}/taken` } };
      }
      return undefined;
    };
    scene = await startScene(cluster, {
      server: proxy.server,
      caPem: "",
      config: { tracing: { endpoint: collector.endpoint, transport: "plaintext", sampleRatio: 1 } },
    });
    const { namespace } = scene;
    await admin.create({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "values", namespace },
      stringData: {
        password: canary,
        broken: `{ "${canary}": [`,
        quota: `${canary}-not-a-number`,
        // A value that is a template itself, and one that ends the text it is put into.
        nested: `\${${canary}}`,
        quote: `" ${canary}: [`,
        // Of calls: a header, one that cannot be one, a body, and credentials of a metric source.
        Authorization: `Bearer ${canary}`,
        folded: `${canary}\r\nX-Other: ${canary}`,
        token: canary,
        // Of clusters and of decryption.
        value: `apiVersion: v1\nkind: Config\nusers: [{name: a, user: {token: ${canary}}}, ${canary}: {`,
        "a.agekey": `AGE-SECRET-KEY-1${canary}`,
        "b.asc": `-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n${canary}\n-----END PGP PRIVATE KEY BLOCK-----\n`,
      },
    });
    for (const [name, server] of [
      ["refusing", "https://127.0.0.1:9"],
      ["metadata", "https://169.254.169.254"],
      ["insecure", `http://user:${canary}@127.0.0.1:9`],
    ] as const)
      await admin.create({
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: `cluster-${name}`, namespace },
        stringData: { value: kubeConfigText({ cluster: { server }, user: { token: canary } }) },
      });
    receiver = await startReceiver();
    // What was asked comes back in a refusal.
    receiver.reply = ({ headers, body }, response) => {
      response.statusCode = 500;
      response.setHeader("x-echo", String(headers["authorization"]));
      response.end(JSON.stringify({ headers, body }));
    };
    await denyQuoting(namespace);
  });
  afterAll(async () => {
    await scene[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
    await collector[Symbol.asyncDispose]();
    await elsewhere.stop();
    await receiver[Symbol.asyncDispose]();
    if (temporary === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = temporary;
    delete process.env["OTEL_EXPORTER_OTLP_HEADERS"];
    await rm(disk, { recursive: true });
  });

  /** A policy of the API server's that quotes what it denies. */
  const denyQuoting = async (namespace: string): Promise<void> => {
    const group = { apiVersion: "admissionregistration.k8s.io/v1" } as const;
    const name = `quoting-${namespace}`;
    await admin.create({
      ...group,
      kind: "ValidatingAdmissionPolicy",
      metadata: { name },
      spec: {
        failurePolicy: "Fail",
        matchConstraints: {
          resourceRules: [
            { apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE", "UPDATE"], resources: ["configmaps"] },
          ],
        },
        validations: [
          {
            expression: "object.metadata.name != 'quoted'",
            messageExpression: "'the value ' + object.data.k + ' is not allowed'",
          },
        ],
      },
    });
    const namespaceSelector = { matchLabels: { "kubernetes.io/metadata.name": namespace } };
    await admin.create({
      ...group,
      kind: "ValidatingAdmissionPolicyBinding",
      metadata: { name },
      spec: { policyName: name, validationActions: ["Deny"], matchResources: { namespaceSelector } },
    });
    // It takes a moment until the API server knows it.
    await eventually(async () => {
      const probe = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "quoted", namespace }, data: { k: "x" } };
      return admin.create(probe).then(
        () => admin.delete(probe).then(() => false),
        () => true,
      );
    });
  };

  const substituted = { postBuild: { substituteFrom: [{ kind: "Secret", name: "values" }] } };
  const secretNamed = (name: string, more = ""): string =>
    `apiVersion: v1\nkind: Secret\nmetadata: {name: ${name}}\n${more}stringData: {password: "\${password}"}\n`;
  const mapWith = (name: string, data: string): string =>
    `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}}\ndata: ${data}\n`;
  const failed = "False StageFailed";
  const rows: readonly (readonly [
    name: string,
    manifest: string,
    ready: string,
    stage?: Readonly<Record<string, unknown>>,
  ])[] = [
    ["good", secretNamed("out"), "True Succeeded"],
    // The API server's refusal quotes the value it refuses.
    ["refused", 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: refused, labels: {a: "${password}!"}}\n', failed],
    ["typed", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: typed}\nspec: {replicas: ${quota}}\n", failed],
    ["unparsed", mapWith("x", "${broken}"), failed],
    ["unquoted", mapWith("x", '{k: "${quote}"}'), failed],
    ["nested", mapWith("nested", '{k: "${nested}"}'), "True Succeeded"],
    [
      "unserved",
      'apiVersion: example.com/v1\nkind: Unheard\nmetadata: {name: a}\nspec: "${password}"\n',
      "False RBACDenied",
    ],
    ["keyed", 'apiVersion: v1\nkind: Secret\nmetadata: {name: keyed}\ndata: {key: "${password}"}\n', failed],
    ["quoted", mapWith("quoted", '{k: "${password}"}'), failed],
    ["truncated", secretNamed("truncated"), failed],
    ["echoed", secretNamed("echoed"), failed],
    ["mangled", mapWith("echoed", '{k: "${password}"}'), failed],
    ["redirected", secretNamed("redirected"), failed],
    [
      "judged",
      'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: judged, annotations: {a: "${password}"}}\n',
      failed,
      {
        readyChecks: {
          timeout: "1s",
          exprs: [{ apiVersion: "v1", kind: "ConfigMap", current: "int(metadata.annotations.a) > 0" }],
        },
      },
    ],
    ["plain", `apiVersion: v1\nkind: Secret\nmetadata: {name: plain}\ndata: {key: "${shipped}"}\n`, failed],
    [
      "twice",
      `apiVersion: v1\nkind: Secret\nmetadata: {name: twice}\nstringData: {a: ${shipped}, a: ${shipped}}\n`,
      failed,
    ],
  ];

  test.concurrent.for(rows)("%s", async ([name, manifest, ready, stage = {}]) => {
    const { namespace } = scene;
    await scene.publish(name, { "a.yaml": manifest });
    const values = manifest.includes("${") ? substituted : {};
    await scene.release(name, [{ name: "web", sourceRef: { name }, ...values, ...stage }]);
    if (ready === "True Succeeded") await untilReady(cluster, { namespace, name });
    else
      await eventually(async () => {
        const stageSet = await scene.get(name);
        expect(readyOf(stageSet), messageOf(stageSet)).toBe(ready);
        return true;
      });
  });

  test.concurrent("what cannot be changed, what somebody else owns, and drift", async () => {
    const { namespace } = scene;
    const secret = { apiVersion: "v1", kind: "Secret", metadata: { name: "fixed", namespace } } as const;
    await admin.apply({ ...secret, stringData: { password: "other" } }, { fieldManager: "somebody" });
    await scene.publish("fixed", { "a.yaml": secretNamed("fixed") });
    await scene.release("fixed", [{ name: "web", sourceRef: { name: "fixed" }, ...substituted }]);
    await eventually(async () => readyOf(await scene.get("fixed")) !== "Unknown Progressing");
    await admin.patch(secret, { stringData: { password: "third" }, immutable: true });
    await scene.publish("fixed", { "a.yaml": secretNamed("fixed"), "b.yaml": configMap("more") });
    await untilReady(cluster, { namespace, name: "fixed" }, failed, { timeoutMs: 60_000 });
    const drifting = { apiVersion: "v1", kind: "Secret", metadata: { name: "drifting", namespace } } as const;
    await scene.publish("drifting", { "a.yaml": secretNamed("drifting") });
    await scene.release("drifting", [{ name: "web", sourceRef: { name: "drifting" }, ...substituted }]);
    await untilReady(cluster, { namespace, name: "drifting" });
    await admin.patch(drifting, { stringData: { password: "foreign" } });
    await eventually(
      async () => (await stageSetEvents(cluster, { namespace, name: "drifting", reason: "DriftCorrected" })).length > 0,
    );
  });

  // What is behind the question mark may be a signature that opens a bucket, and user and password are just that.
  test.concurrent.for([
    ["signed", (url: string) => `${url}/signed?signature=${canary}`, failed],
    ["userinfo", (url: string) => `${url.replace("//", `//user:${canary}@`)}/a`, failed],
    ["closed", () => `http://127.0.0.1:9/a?signature=${canary}`, failed],
    ["metadata", () => `http://169.254.169.254/?signature=${canary}`, failed],
    ["led", (url: string) => `${url}/led`, failed],
  ] as const)("an artifact URL: %s", async ([name, url, ready]) => {
    elsewhere.serve("/led", { kind: "redirect", location: `http://localhost:9/?signature=${canary}` });
    const { object } = await scene.publish(name, { "a.yaml": configMap(name) });
    const artifact = asObject(at(object, "status", "artifact"));
    await admin.patchStatus(object, { artifact: { ...artifact, url: url(elsewhere.url) } });
    await scene.release(name, [{ name: "web", sourceRef: { name } }]);
    await untilReady(cluster, { namespace: scene.namespace, name }, ready, { timeoutMs: 60_000 });
  });

  const fromSecret = (key: string) => ({ name: "values", key });
  const calling = (http: () => Readonly<Record<string, unknown>>) => () => ({
    stage: { actions: { pre: [{ name: "call", http: http() }] } },
  });
  const secretRef = { name: "values" };
  const budget = (source: () => Readonly<Record<string, unknown>>) => () => ({
    spec: { errorBudget: { source: source(), freezeThreshold: "0", onSourceError: "Hold" } },
  });
  const onCluster = (name: string) => () => ({ spec: { kubeConfig: { secretRef: { name } } } });
  const inputs: readonly (readonly [name: string, message: string, more: () => Inputs])[] = [
    [
      "called",
      "answered 500",
      calling(() => ({
        url: `${receiver.url}/called`,
        headersFrom: [fromSecret("Authorization")],
        bodyFrom: fromSecret("password"),
      })),
    ],
    ["call-folded", "no header may have", calling(() => ({ url: receiver.url, headersFrom: [fromSecret("folded")] }))],
    [
      "call-closed",
      "ECONNREFUSED",
      calling(() => ({ url: "http://127.0.0.1:9", headersFrom: [fromSecret("Authorization")] })),
    ],
    [
      "budget-asked",
      "answered 500",
      budget(() => ({ webhook: { url: `${receiver.url}/left`, jsonPath: "{.left}", secretRef } })),
    ],
    [
      "budget-closed",
      "ECONNREFUSED",
      budget(() => ({ prometheus: { address: "http://127.0.0.1:9", query: "up", secretRef } })),
    ],
    ["cluster-malformed", "is no YAML", onCluster("values")],
    ["cluster-refusing", "is unreachable", onCluster("cluster-refusing")],
    ["cluster-metadata", "never connected to", onCluster("cluster-metadata")],
    ["cluster-insecure", "only https is used", onCluster("cluster-insecure")],
    [
      "keys-malformed",
      "is no age identity",
      () => ({ stage: {}, spec: { decryption: { provider: "sops", secretRef } } }),
    ],
  ];
  test.concurrent.for(inputs)("an input that fails: %s", async ([name, message, more]) => {
    const { stage = {}, spec = {} } = more();
    await scene.publish(name, { "a.yaml": configMap(name) });
    await scene.release(name, [{ name: "web", sourceRef: { name }, ...stage }], spec);
    await eventually(
      async () => {
        const stageSet = await scene.get(name);
        expect(readyOf(stageSet)).toMatch(/^False /);
        expect(messageOf(stageSet)).toContain(message);
        return true;
      },
      { timeoutMs: 90_000 },
    );
  });

  test("[60.15] nothing of them is in logs, Events, status, inventory, metrics, spans, gate answers or on disk", async () => {
    const { namespace, controller } = scene;
    await eventually(() => collector.spans.some((span) => span.attributes["stageset.name"] === "refused"));
    const asked = { headers: { authorization: `Bearer ${canary}`, cookie: canary } };
    const answers = await Promise.all(
      rows.map(([name]) => controller.gate(`/gate/${namespace}/${name}/web?token=${canary}`, asked)),
    );
    expect(minted.size).toBeGreaterThan(0);
    const listed = (apiVersion: string, kind: string) => admin.list({ apiVersion, kind, namespace });
    const stageSets = await listed("stages.metio.wtf/v1", "StageSet");
    const places: Readonly<Record<string, unknown>> = {
      logs: controller.logs,
      events: await listed("events.k8s.io/v1", "Event"),
      stageSets,
      inventories: await listed("stages.metio.wtf/v1", "StageInventory"),
      metrics: await controller.metrics(),
      spans: collector.spans,
      gate: answers,
    };
    const hidden = [canary, shipped, await controllerToken(cluster), ...minted];
    const forms = hidden.flatMap((text) => [text, Buffer.from(text).toString("base64").replace(/=+$/, "")]);
    for (const [place, content] of Object.entries(places)) {
      const text = JSON.stringify(content);
      expect(text.length, place).toBeGreaterThan(100);
      for (const form of forms) expect(text.includes(form) ? around(text, form) : "", place).toBe("");
    }
    // What was put into manifests is in memory alone.
    const files = (await readdir(disk, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
    expect(files.length).toBeGreaterThan(0);
    for (const file of files) {
      const text = await readFile(join(file.parentPath, file.name), "latin1");
      for (const form of forms.filter((each) => !each.startsWith(shipped)))
        expect(text.includes(form) ? around(text, form) : "", file.name).toBe("");
    }
    // The same of redirects of credentialed calls, as far as such calls exist (spec 50 §14.37).
    expect(elsewhere.count("/taken")).toBe(0);
    expect(receiver.seen.some(({ headers }) => headers["authorization"] === `Bearer ${canary}`)).toBe(true);
    expect(receiver.seen.some(({ body }) => body === canary)).toBe(true);
    expect(collector.headers).toContain(canary);
  });
});

function around(text: string, hit: string): string {
  const at = text.indexOf(hit);
  return text.slice(Math.max(0, at - 200), at + 100);
}
