import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { parseAllDocuments, stringify } from "yaml";
import { toolPath } from "../../src/dev/tools.ts";
import { asText, at } from "../../src/lib/json.ts";
import { diffJson } from "./json-diff.ts";

const chart = fileURLToPath(new URL("../../charts/stageset-controller", import.meta.url));
const run = promisify(execFile);

/** Where plain manifests install to. */
export const plainNamespace = "stageset-system";
const plainRelease = "stageset-controller";

/** Values of the base; the namespace is an object there, as no Helm makes it. */
export const baseValues = { namespace: { create: true } };

/** Values of each component, beside the base's. */
export const components: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  ha: { replicas: { min: 2, max: 2 } },
  "cluster-admin": { rbac: { clusterAdmin: true } },
  monitoring: {
    metrics: { serviceMonitor: { enabled: true }, prometheusRule: { enabled: true } },
    dashboards: { enabled: true },
  },
  "network-policy": { networkPolicy: { enabled: true } },
  "cert-manager": { webhook: { certMode: "cert-manager" } },
  "without-webhook": { webhook: { enabled: false } },
};

/** What the chart renders for `helm template` with the values. */
export async function renderPlain(values: unknown): Promise<readonly unknown[]> {
  const dir = await mkdtemp(join(tmpdir(), "stageset-manifests-"));
  try {
    const file = join(dir, "values.yaml");
    await writeFile(file, JSON.stringify(values));
    const args = ["template", plainRelease, chart, `--namespace=${plainNamespace}`, `--values=${file}`];
    const { stdout } = await run(await toolPath("helm"), args, { maxBuffer: 64 * 1024 * 1024 });
    const objects: readonly unknown[] = parseAllDocuments(stdout).map((document) => document.toJS() as unknown);
    return objects.filter((object) => object !== null);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** The release assets by name. */
export async function renderBundles(): Promise<ReadonlyMap<string, readonly unknown[]>> {
  const all = await renderPlain(baseValues);
  return new Map([
    ["install.yaml", all],
    ["install-minimal.yaml", await renderPlain({ ...baseValues, ...components["without-webhook"] })],
    ["crds.yaml", all.filter(isDefinition)],
  ]);
}

/** Files of `deploy/` by path. */
export async function renderKustomize(): Promise<ReadonlyMap<string, string>> {
  const header = '# Written by "npm run manifests" from charts/stageset-controller; change it there.\n';
  const base = await renderPlain(baseValues);
  const files = new Map([
    ["base/crds.yaml", header + renderYaml(base.filter(isDefinition))],
    ["base/controller.yaml", header + renderYaml(base.filter((object) => !isDefinition(object)))],
    [
      "base/kustomization.yaml",
      header + stringify({ ...kustomization("Kustomization"), resources: ["crds.yaml", "controller.yaml"] }),
    ],
  ]);
  for (const [name, values] of Object.entries(components)) {
    const { added, patches } = difference(base, await renderPlain({ ...baseValues, ...values }));
    const body = {
      ...kustomization("Component"),
      ...(added.length === 0 ? {} : { resources: ["resources.yaml"] }),
      ...(patches.length === 0 ? {} : { patches }),
    };
    files.set(`components/${name}/kustomization.yaml`, header + stringify(body, { lineWidth: 0 }));
    if (added.length > 0) files.set(`components/${name}/resources.yaml`, header + renderYaml(added));
  }
  return files;
}

function kustomization(kind: "Kustomization" | "Component"): { readonly apiVersion: string; readonly kind: string } {
  return {
    apiVersion: kind === "Component" ? "kustomize.config.k8s.io/v1alpha1" : "kustomize.config.k8s.io/v1beta1",
    kind,
  };
}

interface Patch {
  readonly target: Readonly<Record<string, string>>;
  readonly patch: string;
}

/** What makes `wanted` of `base`: objects to add, and patches of those that change or go. */
function difference(
  base: readonly unknown[],
  wanted: readonly unknown[],
): { readonly added: readonly unknown[]; readonly patches: readonly Patch[] } {
  const after = new Map(wanted.map((object) => [keyOf(object), object]));
  const before = new Set(base.map(keyOf));
  const patches = base.flatMap((object): readonly Patch[] => {
    const now = after.get(keyOf(object));
    if (now === undefined) return [{ target: targetOf(object), patch: stringify(deletionOf(object)) }];
    const operations = diffJson(object, now);
    return operations.length === 0
      ? []
      : [{ target: targetOf(object), patch: stringify(operations, { lineWidth: 0 }) }];
  });
  return { added: wanted.filter((object) => !before.has(keyOf(object))), patches };
}

function keyOf(object: unknown): string {
  const { group, kind, name, namespace = "" } = targetOf(object);
  return `${group ?? ""}/${kind ?? ""}/${namespace}/${name ?? ""}`;
}

function targetOf(object: unknown): Readonly<Record<string, string>> {
  const [group, version] = splitVersion(asText(at(object, "apiVersion")) ?? "");
  const namespace = asText(at(object, "metadata", "namespace"));
  return {
    ...(group === "" ? {} : { group }),
    version,
    kind: asText(at(object, "kind")) ?? "",
    name: asText(at(object, "metadata", "name")) ?? "",
    ...(namespace === undefined ? {} : { namespace }),
  };
}

function splitVersion(apiVersion: string): readonly [string, string] {
  const slash = apiVersion.indexOf("/");
  return slash < 0 ? ["", apiVersion] : [apiVersion.slice(0, slash), apiVersion.slice(slash + 1)];
}

function deletionOf(object: unknown): unknown {
  const { name, namespace } = targetOf(object);
  return {
    $patch: "delete",
    apiVersion: at(object, "apiVersion"),
    kind: at(object, "kind"),
    metadata: { name, ...(namespace === undefined ? {} : { namespace }) },
  };
}

function isDefinition(object: unknown): boolean {
  return at(object, "kind") === "CustomResourceDefinition";
}

function renderYaml(objects: readonly unknown[]): string {
  return objects.map((object) => `---\n${stringify(object, { lineWidth: 0 })}`).join("");
}
