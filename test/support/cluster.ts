import { randomBytes } from "node:crypto";
import { open, stat } from "node:fs/promises";
import { createInterface } from "node:readline";
import { inject } from "vitest";
import { asText, at } from "../../src/lib/json.ts";
import type { ProvidedControlPlane } from "./global-setup.ts";
import { createTestClient, type TestClient } from "./test-client.ts";

export { eventually } from "./eventually.ts";

/** The run's control plane, as a test uses it. */
export interface TestCluster extends ProvidedControlPlane {
  readonly admin: TestClient;
  /** A client for the holder of another token. */
  as(token: string): TestClient;
}

/** The run's control plane; only in tests of the `apiserver` project. */
export function testCluster(): TestCluster {
  return clusterOf(inject("controlPlane"));
}

/** A control plane a test started itself, such as a remote cluster. */
export function clusterOf(controlPlane: ProvidedControlPlane): TestCluster {
  const { server, caPem, caFile, adminToken, kubeconfigPath, auditLogPath } = controlPlane;
  const as = (token: string): TestClient => createTestClient({ server, caPem, token });
  return { server, caPem, caFile, adminToken, kubeconfigPath, auditLogPath, admin: as(adminToken), as };
}

/** A namespace (or another name) nobody else in this run uses. */
export function uniqueName(prefix = "t"): string {
  return `${prefix}-${randomBytes(5).toString("hex")}`;
}

/** Creates a namespace of the test's own. Nobody need delete it: the control plane goes with the run. */
export async function uniqueNamespace({ admin }: TestCluster, prefix = "t"): Promise<string> {
  const name = uniqueName(prefix);
  await admin.create({ apiVersion: "v1", kind: "Namespace", metadata: { name } });
  return name;
}

export interface PolicyRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
}

export interface ServiceAccountOptions {
  readonly namespace: string;
  readonly name: string;
  /** Granted in its namespace. Default: none. */
  readonly rules?: readonly PolicyRule[];
  /** Granted in the whole cluster. Default: none. */
  readonly clusterRules?: readonly PolicyRule[];
}

export interface TestServiceAccount {
  readonly namespace: string;
  readonly name: string;
  /** `system:serviceaccount:<namespace>:<name>`, as the audit log has it. */
  readonly username: string;
  /** Valid for an hour. */
  readonly token: string;
}

/** Every verb on everything. */
export const allRules: readonly PolicyRule[] = [{ apiGroups: ["*"], resources: ["*"], verbs: ["*"] }];

/** A ServiceAccount with a Role (and, on request, a ClusterRole) of the same name bound to it, and a token for it. */
export async function createServiceAccount(
  { admin }: TestCluster,
  { namespace, name, rules = [], clusterRules = [] }: ServiceAccountOptions,
): Promise<TestServiceAccount> {
  const rbac = "rbac.authorization.k8s.io";
  const subjects = [{ kind: "ServiceAccount", name, namespace }];
  await admin.apply({ apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace } });
  if (rules.length > 0) {
    const roleRef = { apiGroup: rbac, kind: "Role", name };
    await admin.apply({ apiVersion: `${rbac}/v1`, kind: "Role", metadata: { name, namespace }, rules });
    await admin.apply({
      apiVersion: `${rbac}/v1`,
      kind: "RoleBinding",
      metadata: { name, namespace },
      roleRef,
      subjects,
    });
  }
  if (clusterRules.length > 0) {
    const metadata = { name: `${namespace}-${name}` };
    const roleRef = { apiGroup: rbac, kind: "ClusterRole", name: metadata.name };
    await admin.apply({ apiVersion: `${rbac}/v1`, kind: "ClusterRole", metadata, rules: clusterRules });
    await admin.apply({ apiVersion: `${rbac}/v1`, kind: "ClusterRoleBinding", metadata, roleRef, subjects });
  }
  const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`;
  const body = { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: { expirationSeconds: 3600 } };
  const reply = await admin.request("POST", path, { body });
  const token = asText(at(reply.body, "status", "token"));
  if (token === undefined) throw new Error(`No token for "${namespace}/${name}": ${JSON.stringify(reply.body)}`);
  return { namespace, name, username: `system:serviceaccount:${namespace}:${name}`, token };
}

/** One finished (or, for a watch, begun) request. */
export interface AuditEvent {
  readonly username: string;
  readonly impersonated: string | undefined;
  readonly verb: string;
  readonly uri: string;
  readonly stage: "ResponseStarted" | "ResponseComplete" | "Panic";
  readonly code: number;
  readonly group: string;
  readonly resource: string;
  readonly subresource: string;
  readonly namespace: string;
  readonly name: string;
  readonly userAgent: string;
  /** The authorizer's, `allow` or `forbid`; a 403 may come from admission too. */
  readonly decision: string;
  /** ISO 8601 with microseconds. */
  readonly receivedAt: string;
}

export interface AuditFilter {
  /** Only what was logged after this {@link auditMark}. */
  readonly since?: number;
  /** Only lines with this text: the log of a whole run is long. */
  readonly contains?: string;
  readonly username?: string;
  readonly namespace?: string;
  readonly resource?: string;
  readonly verbs?: readonly string[];
  readonly where?: (event: AuditEvent) => boolean;
}

/** The present end of the audit log, for {@link AuditFilter.since}. */
export async function auditMark({ auditLogPath }: Pick<TestCluster, "auditLogPath">): Promise<number> {
  return (await stat(auditLogPath)).size;
}

/** Requests the API server has logged, oldest first. A request is logged before its answer is sent completely. */
export async function auditEvents(
  { auditLogPath }: Pick<TestCluster, "auditLogPath">,
  filter: AuditFilter = {},
): Promise<readonly AuditEvent[]> {
  await using file = await open(auditLogPath);
  const events: AuditEvent[] = [];
  for await (const line of createInterface(file.createReadStream({ start: filter.since ?? 0, autoClose: false }))) {
    if ([filter.contains, filter.username, filter.namespace].some((text) => text !== undefined && !line.includes(text)))
      continue;
    const event = parseAuditEvent(line);
    if (event !== undefined && matches(event, filter)) events.push(event);
  }
  return events;
}

function matches(event: AuditEvent, { username, namespace, resource, verbs, where }: AuditFilter): boolean {
  return (
    (username === undefined || event.username === username) &&
    (namespace === undefined || event.namespace === namespace) &&
    (resource === undefined || event.resource === resource) &&
    (verbs === undefined || verbs.includes(event.verb)) &&
    (where === undefined || where(event))
  );
}

function parseAuditEvent(line: string): AuditEvent | undefined {
  if (!line.endsWith("}")) return undefined; // Being written.
  const event: unknown = JSON.parse(line);
  const text = (...path: readonly string[]): string => asText(at(event, ...path)) ?? "";
  const stage = text("stage");
  return {
    username: text("user", "username"),
    impersonated: asText(at(event, "impersonatedUser", "username")),
    verb: text("verb"),
    uri: text("requestURI"),
    stage: stage === "ResponseStarted" || stage === "Panic" ? stage : "ResponseComplete",
    code: Number(at(event, "responseStatus", "code") ?? 0),
    group: text("objectRef", "apiGroup"),
    resource: text("objectRef", "resource"),
    subresource: text("objectRef", "subresource"),
    namespace: text("objectRef", "namespace"),
    name: text("objectRef", "name"),
    userAgent: text("userAgent"),
    decision: text("annotations", "authorization.k8s.io/decision"),
    receivedAt: text("requestReceivedTimestamp"),
  };
}
