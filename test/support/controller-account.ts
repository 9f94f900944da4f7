import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { asArray, asObject, asText, at } from "../../src/lib/json.ts";
import type { TestCluster } from "./cluster.ts";
import { eventually } from "./eventually.ts";
import type { Manifest, TestClient } from "./test-client.ts";

const rbac = "rbac.authorization.k8s.io";
const renderedFile = fileURLToPath(new URL("../../deploy/base/controller.yaml", import.meta.url));
const name = "stageset-controller";
const namespace = "stageset-under-test";

/** Who the controllers of tests are unless a test says otherwise, as the audit log has it. */
export const controllerUsername = `system:serviceaccount:${namespace}:${name}`;

/** Tokens by API server; each file of tests asks for its own. */
const tokens = new Map<string, Promise<string>>();

/**
 * A token of a ServiceAccount that may do what the chart renders for the controller in the whole cluster, and nothing else.
 * Valid for six hours, longer than any run.
 */
export function controllerToken(cluster: Pick<TestCluster, "server" | "admin">): Promise<string> {
  const known = tokens.get(cluster.server);
  if (known !== undefined) return known;
  const token = createAccount(cluster);
  tokens.set(cluster.server, token);
  return token;
}

/**
 * Binds what the chart renders for one installation: the rights on the Lease and the certificate's Secret in its namespace, and
 * those on its ValidatingWebhookConfiguration, whose name depends on the release.
 */
export async function bindInstallation(
  { admin }: Pick<TestCluster, "admin">,
  { namespace: own, configurationName }: { readonly namespace: string; readonly configurationName?: string },
): Promise<void> {
  const rendered = await renderedRoles();
  for (const { kind, metadata, rules } of rendered)
    if (kind === "Role") await bind(admin, { kind, metadata: { name: metadata.name ?? "", namespace: own }, rules });
  if (configurationName !== undefined) {
    const rules = rendered
      .flatMap((role) => asArray(role["rules"]))
      .filter((rule) => asArray(at(rule, "resources")).includes("validatingwebhookconfigurations"))
      .map((rule) => ({ ...asObject(rule), resourceNames: [configurationName] }));
    await bind(admin, { kind: "ClusterRole", metadata: { name: `under-test-${configurationName}` }, rules });
  }
  const lease = { group: "coordination.k8s.io", resource: "leases", verb: "create", namespace: own };
  const secret = { group: "", resource: "secrets", verb: "create", namespace: own };
  const group = "admissionregistration.k8s.io";
  const configuration = { group, resource: "validatingwebhookconfigurations", verb: "get", name: configurationName };
  await untilAllowed(admin, [lease, secret, ...(configurationName === undefined ? [] : [configuration])]);
}

async function createAccount({ server, admin }: Pick<TestCluster, "server" | "admin">): Promise<string> {
  await admin.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  await admin.apply({ apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace } });
  for (const { kind, metadata, rules } of await renderedRoles())
    if (kind === "ClusterRole")
      await bind(admin, { kind, metadata: { name: `under-test-${metadata.name ?? ""}` }, rules });
  const reply = await admin.request("POST", `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`, {
    body: { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: { expirationSeconds: 6 * 3600 } },
  });
  const token = asText(at(reply.body, "status", "token"));
  if (token === undefined) throw new Error(`No token from ${server}: ${JSON.stringify(reply.body)}`);
  await untilAllowed(admin, [
    { group: "apiextensions.k8s.io", resource: "customresourcedefinitions", verb: "list" },
    { group: "stages.metio.wtf", resource: "stagesets", verb: "list" },
  ]);
  return token;
}

interface Role {
  readonly kind: "ClusterRole" | "Role";
  readonly metadata: { readonly name: string } | { readonly name: string; readonly namespace: string };
  readonly rules: unknown;
}

async function bind(admin: TestClient, { kind, metadata, rules }: Role): Promise<void> {
  await admin.apply({ apiVersion: `${rbac}/v1`, kind, metadata, rules });
  await admin.apply({
    apiVersion: `${rbac}/v1`,
    kind: `${kind}Binding`,
    metadata,
    roleRef: { apiGroup: rbac, kind, name: metadata.name },
    subjects: [{ kind: "ServiceAccount", name, namespace }],
  });
}

/** The authorizer learns of roles and bindings through watches. */
async function untilAllowed(admin: TestClient, accesses: readonly object[]): Promise<void> {
  const body = (resourceAttributes: object) => ({
    apiVersion: "authorization.k8s.io/v1",
    kind: "SubjectAccessReview",
    spec: { user: controllerUsername, resourceAttributes },
  });
  const path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
  await eventually(async () => {
    const replies = await Promise.all(accesses.map((access) => admin.request("POST", path, { body: body(access) })));
    return replies.every((reply) => at(reply.body, "status", "allowed") === true);
  });
}

let roles: Promise<readonly RenderedRole[]> | undefined;

type RenderedRole = Manifest & { readonly kind: "ClusterRole" | "Role" };

function isRole(manifest: Manifest): manifest is RenderedRole {
  return manifest.kind === "ClusterRole" || manifest.kind === "Role";
}

/** The ClusterRoles and Roles of the chart's default render; `chart-manifests.test.ts` compares the chart with this file. */
function renderedRoles(): Promise<readonly RenderedRole[]> {
  return (roles ??= readFile(renderedFile, "utf8").then((text) =>
    parseAllDocuments(text)
      .map((document) => document.toJS() as Manifest) // The rendered file holds manifests.
      .filter(isRole),
  ));
}
