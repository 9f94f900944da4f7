import { describe, expect, test } from "vitest";
import { readControls } from "./controls.ts";
import { parseManifest } from "./manifest.ts";
import { normaliseManifest } from "./normalise.ts";
import { parseYaml } from "./yaml-parse.ts";
import type { YamlValue } from "./yaml-value.ts";

function parse(text: string): YamlValue {
  return parseYaml(text, "kustomize")[0] ?? null;
}

function normalise(text: string): YamlValue | undefined {
  return normaliseManifest(parseManifest(parse(text), '"a.yaml"'))?.value;
}

const certificate = `-----BEGIN CERTIFICATE-----
CERT
-----END CERTIFICATE-----
`;
const definition = (bundle: string): string =>
  `apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: x}\nstatus: {kept: true}\nspec: {conversion: {webhook: {clientConfig: {url: u${bundle}}}}}\n`;

describe("normaliseManifest", () => {
  test.each([
    [
      "removes what the server sets, and the status",
      "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x, uid: u, resourceVersion: '1', generation: 1, creationTimestamp: null, managedFields: [], selfLink: s, labels: {a: b}}\nstatus: {replicas: 1}\n",
      "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x, labels: {a: b}}\n",
    ],
    [
      "encodes text of Secrets, which wins",
      "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {a: b2xk, b: a2VwdA==}\nstringData: {a: new, c: ä}\n",
      "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {a: bmV3, b: a2VwdA==, c: w6Q=}\n",
    ],
    [
      "leaves other kinds named Secret alone",
      "apiVersion: example.org/v1\nkind: Secret\nmetadata: {name: x}\nstringData: {a: new}\n",
      "apiVersion: example.org/v1\nkind: Secret\nmetadata: {name: x}\nstringData: {a: new}\n",
    ],
    [
      "gives ports of Services their protocol",
      "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 1}, {port: 2, protocol: UDP}, {port: 3, protocol: ''}]}\n",
      "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 1, protocol: TCP}, {port: 2, protocol: UDP}, {port: 3, protocol: TCP}]}\n",
    ],
    [
      "gives ports of containers their protocol",
      "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: x}\nspec: {jobTemplate: {spec: {template: {spec: {containers: [{ports: [{containerPort: 1}]}, {name: b}], initContainers: [{ports: [{containerPort: 2}]}]}}}}}\n",
      "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: x}\nspec: {jobTemplate: {spec: {template: {spec: {containers: [{ports: [{containerPort: 1, protocol: TCP}]}, {name: b}], initContainers: [{ports: [{containerPort: 2, protocol: TCP}]}]}}}}}\n",
    ],
    ["removes a bundle that is none", definition(", caBundle: Cg=="), definition("")],
    [
      "removes a bundle with a broken certificate",
      definition(`, caBundle: ${Buffer.from(certificate).toString("base64")}`),
      definition(""),
    ],
    ["keeps the status of definitions", definition(""), definition("")],
  ])("%s", (_what, text, expected) => expect(normalise(text)).toEqual(parse(expected)));

  test("drops objects of kustomize", () => {
    expect(normalise("apiVersion: kustomize.config.k8s.io/v1\nkind: X\nmetadata: {name: x}\n")).toBeUndefined();
  });

  test.each(["stringData: [a]", "stringData: {a: 1}"])("refuses a Secret with %s", (text) => {
    expect(() => normalise(`apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n${text}\n`)).toThrow(
      expect.objectContaining({ reason: "Invalid" }),
    );
  });
});

describe("readControls", () => {
  const read = (annotations: Readonly<Record<string, string>>, labels: Readonly<Record<string, string>> = {}) =>
    readControls({ metadata: { name: "x", annotations, labels } });
  const none = { prune: "enabled", force: false, keepExisting: false, reconcile: "enabled", ignored: [] };
  const own = "stages.metio.wtf";
  const flux = "kustomize.toolkit.fluxcd.io";

  test.each([
    [{}, {}],
    [{ [`${own}/prune`]: "Disabled" }, { prune: "disabled" }],
    [{ [`${flux}/prune`]: "disabled" }, { prune: "disabled" }],
    [{ [`${own}/force`]: "TRUE" }, { force: true }],
    [{ [`${own}/force`]: "enabled" }, { force: true }],
    [{ [`${flux}/force`]: "Enabled" }, { force: true }],
    [{ [`${flux}/force`]: "true" }, { force: false }],
    [{ [`${own}/keep-existing`]: "true" }, { keepExisting: true }],
    [{ [`${flux}/ssa`]: "IfNotPresent" }, { keepExisting: true }],
    [{ [`${flux}/ssa`]: "Ignore" }, { reconcile: "disabled" }],
    [{ [`${own}/reconcile`]: "disabled" }, { reconcile: "disabled" }],
    [{ [`${flux}/reconcile`]: "disabled" }, { reconcile: "disabled" }],
    [{ [`${own}/force`]: "yes" }, { ignored: [`${own}/force`] }],
    [{ [`${own}/force`]: "disabled" }, { ignored: [`${own}/force`] }],
    [{ [`${own}/keep-existing`]: "false", [`${own}/prune`]: "maybe" }, { ignored: [`${own}/prune`] }],
  ])("reads %j", (controls, expected) => {
    expect(read(controls)).toEqual({ ...none, ...expected });
    expect(read({}, controls)).toEqual({ ...none, ...expected });
  });
});
