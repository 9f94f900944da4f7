import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { installCrds } from "../../src/dev/crds.ts";
import { asArray, at } from "../../src/lib/json.ts";
import { testCluster, uniqueNamespace } from "../support/cluster.ts";
import { guideBlocks } from "../support/guide.ts";

const cluster = testCluster();
const { admin } = cluster;

test("the guide's NetworkPolicy and AuthorizationPolicy are accepted as printed, and admit GET and POST on the gate from the delivery controllers alone", async () => {
  await installCrds({ ...cluster, token: cluster.adminToken }, ["istio-security"]);
  const namespace = await uniqueNamespace(cluster);
  const blocks = await guideBlocks("progressive-delivery.md", {
    "namespace: stageset-system": `namespace: ${namespace}`,
  });
  const stored = async (title: string) => {
    const [manifest] = blocks.get(title) ?? [];
    if (manifest === undefined) throw new Error(`the guide has no block "${title}"`);
    const collection = await admin.path({ apiVersion: manifest.apiVersion, kind: manifest.kind, namespace });
    const reply = await admin.request("POST", `${collection}?fieldValidation=Strict`, { body: manifest });
    expect(reply.status, JSON.stringify(reply.body)).toBe(201);
    return reply.body;
  };
  const network = await stored("network-policy");
  const gates = asArray(at(network, "spec", "ingress")).filter((rule) => JSON.stringify(rule).includes("8082"));
  expect(gates).toHaveLength(1);
  const from = asArray(at(gates[0], "from")).map((peer) => at(peer, "namespaceSelector", "matchLabels"));
  expect(from).toEqual(["flagger-system", "argo-rollouts"].map((name) => ({ "kubernetes.io/metadata.name": name })));
  const mesh = await stored("istio-authorization-policy");
  expect(asArray(at(mesh, "spec", "rules"))).toContainEqual({
    from: [{ source: { namespaces: ["flagger-system", "argo-rollouts"] } }],
    to: [{ operation: { ports: ["8082"], methods: ["GET", "HEAD", "POST"], paths: ["/gate/*"] } }],
  });
});

test("every YAML block of the guide has a title, and is taken from the file by a test under that title", async () => {
  const read = (file: string): Promise<string> => readFile(new URL(`../../${file}`, import.meta.url), "utf8");
  const guide = await read("docs/guides/progressive-delivery.md");
  const fences = [...guide.matchAll(/^```ya?ml(.*)$/gm)].map(([, info]) => info ?? "");
  const titles = fences.map((info) => /^ title=([a-z-]+)$/.exec(info)?.[1] ?? `untitled:${info}`);
  const tests = [
    "test/system/flagger.test.ts",
    "test/system/argo-rollouts.test.ts",
    "test/apiserver/guide-policies.test.ts",
    "test/support/delivery-scene.ts",
  ];
  const text = (await Promise.all(tests.map(read))).join("");
  expect(titles.filter((title) => !text.includes(`"${title}"`))).toEqual([]);
  expect(new Set(titles).size).toBe(titles.length);
});
