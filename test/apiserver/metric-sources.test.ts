import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { MetricSource } from "../../src/api/stage-set.ts";
import { issuePair } from "../../src/certificates/issue.ts";
import { hostAllowance } from "../../src/domain/formats/host-glob.ts";
import type { MetricAnswer } from "../../src/domain/metrics/metric-answer.ts";
import { createMetricReader } from "../../src/engine/metrics/metric-source.ts";
import { createAccessProvider } from "../../src/identity/access.ts";
import { tokenCredential } from "../../src/kube/credential.ts";
import { localClusterKey } from "../../src/kube/endpoint.ts";
import { createTransports } from "../../src/kube/transport.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { createGuardedFetch } from "../../src/outbound/guard.ts";
import {
  auditEvents,
  auditMark,
  createServiceAccount,
  eventually,
  testCluster,
  uniqueNamespace,
  type AuditEvent,
} from "../support/cluster.ts";
import { controllerToken } from "../support/controller-account.ts";
import { startMetricServer, type MetricServer } from "../support/metric-server.ts";
import { rulesOn } from "../support/tenancy.ts";

const cluster = testCluster();
const { admin } = cluster;

/** Queries as the controller asks them, of a namespace whose ServiceAccount `reader` may read Secrets and `stranger` none. */
describe("a query that carries a token", () => {
  const stack = new AsyncDisposableStack();
  let namespace: string;
  let server: MetricServer;
  let other: MetricServer;
  let secure: MetricServer;
  let caPem: string;
  let accessOf: ReturnType<typeof createAccessProvider>;
  beforeAll(async () => {
    namespace = await uniqueNamespace(cluster);
    await createServiceAccount(cluster, { namespace, name: "reader", rules: rulesOn(["secrets"], ["get"]) });
    await createServiceAccount(cluster, { namespace, name: "stranger" });
    const pair = await issuePair({ names: ["metrics.test"], validityMs: 3_600_000, now: Date.now() });
    caPem = pair.caPem;
    server = stack.use(await startMetricServer());
    other = stack.use(await startMetricServer());
    secure = stack.use(await startMetricServer({ tls: { keyPem: pair.keyPem, certPem: pair.certPem } }));
    const transports = stack.use(createTransports({ clock: systemClock }));
    accessOf = stack.use(
      createAccessProvider({
        endpoint: { key: localClusterKey, server: cluster.server, caPem: cluster.caPem },
        credential: tokenCredential(await controllerToken(cluster)),
        transports,
        clock: systemClock,
      }),
    );
  });
  afterAll(() => stack.disposeAsync());

  const secret = async (name: string, stringData: Readonly<Record<string, string>>): Promise<string> => {
    await admin.create({ apiVersion: "v1", kind: "Secret", metadata: { name, namespace }, stringData });
    return name;
  };
  const ask = (
    url: string,
    secretName: string,
    { as = "reader", hosts = [] }: { readonly as?: string; readonly hosts?: readonly string[] } = {},
  ): Promise<MetricAnswer> => {
    const fetch = createGuardedFetch({
      allowLoopback: true,
      clock: systemClock,
      caPem,
      resolve: () => Promise.resolve(["127.0.0.1"]),
    });
    const read = createMetricReader({ fetch, clock: systemClock, isAllowedHost: hostAllowance(hosts) });
    const source: MetricSource = { webhook: { url, jsonPath: "{.left}", secretRef: { name: secretName } } };
    const access = (signal: AbortSignal) => accessOf.access({ namespace, serviceAccountName: as }, { signal });
    return read(source, { owner: { namespace, name: "shop", access }, signal: new AbortController().signal });
  };
  const problem = (answer: MetricAnswer): string => (answer.kind === "sourceError" ? answer.problem : "none");
  const readsOf = (name: string, since: number): Promise<readonly AuditEvent[]> =>
    auditEvents(cluster, { since, namespace, resource: "secrets", verbs: ["get", "list", "watch"] }).then((events) =>
      events.filter((event) => event.name === name),
    );

  test("[40.9] the token is sent without the newline it ends with", async () => {
    const name = await secret("newline", { token: "s3cret\r\n" });
    server.reply(() => ({ body: '{"left":0.5}' }));
    expect(await ask(server.url, name)).toEqual({ kind: "value", value: 0.5 });
    expect(server.queries.at(-1)?.headers.authorization).toBe("Bearer s3cret");
  });

  const unusable: readonly (readonly [string, Readonly<Record<string, string>> | undefined, RegExp])[] = [
    ["absent", undefined, /Cannot read Secret ".*\/absent": it does not exist$/],
    ["without-key", { other: "x" }, /it has no entry "token", or an empty one$/],
    ["blank", { token: " \n" }, /it has no entry "token", or an empty one$/],
    ["two-lines", { token: "hidden\nx: y" }, /its entry "token" has characters that no bearer token has$/],
  ];
  test.each(unusable)("[40.9] a Secret that is no use: %s", async (name, data, wanted) => {
    if (data !== undefined) await secret(name, data);
    const before = server.queries.length;
    const answer = await ask(server.url, name);
    expect(problem(answer)).toMatch(wanted);
    expect(problem(answer)).not.toContain("hidden");
    expect(server.queries).toHaveLength(before);
  });

  test("[40.9] a redirect within its host is followed with the token, one to another port or host is refused", async () => {
    const name = await secret("followed", { token: "s3cret" });
    let location = "/elsewhere";
    server.reply(({ path }) => (path === "/slo" ? { status: 302, headers: { location } } : { body: '{"left":2}' }));
    expect(await ask(`${server.url}/slo`, name)).toEqual({ kind: "value", value: 2 });
    expect(server.queries.slice(-2).map(({ headers }) => headers.authorization)).toEqual([
      "Bearer s3cret",
      "Bearer s3cret",
    ]);
    for (location of [other.url, `http://other.test:${server.port}/`]) {
      const seen = server.queries.length;
      const answer = await ask(`${server.url}/slo`, name);
      expect(problem(answer)).toMatch(/a redirect leads to another host, port or scheme, where no token is sent$/);
      expect(server.queries).toHaveLength(seen + 1);
    }
    expect(other.queries).toEqual([]);
  });

  test("[40.9] a redirect from https to http is refused", async () => {
    const name = await secret("downgraded", { token: "s3cret" });
    const url = `https://metrics.test:${secure.port}/slo`;
    secure.reply(({ path }) =>
      path === "/slo" ? { status: 302, headers: { location: `http://metrics.test:${other.port}/` } } : { status: 404 },
    );
    expect(problem(await ask(url, name))).toMatch(/a redirect leads to another host, port or scheme/);
    expect(other.queries).toEqual([]);
    secure.reply(() => ({ body: '{"left":3}' }));
    expect(await ask(url, name)).toEqual({ kind: "value", value: 3 });
    expect(secure.queries.at(-1)?.headers.authorization).toBe("Bearer s3cret");
  });

  test("[40.9] a server whose certificate is for another name is not asked", async () => {
    const name = await secret("mistrusting", { token: "s3cret" });
    const before = secure.queries.length;
    expect(problem(await ask(`https://another.test:${secure.port}/`, name))).toMatch(/ALTNAME/);
    expect(secure.queries).toHaveLength(before);
  });

  test("[40.9] a host that is refused, by the guard or by --allowed-action-hosts, has no Secret read", async () => {
    const name = await secret("unread", { token: "s3cret" });
    const since = await auditMark(cluster);
    expect(problem(await ask("http://169.254.169.254/", name))).toMatch(/never connected to \(link-local\)$/);
    expect(problem(await ask(server.url, name, { hosts: ["*.example.com"] }))).toMatch(/--allowed-action-hosts/);
    expect(await readsOf(name, since)).toEqual([]);
    server.reply(() => ({ body: '{"left":1}' }));
    expect(await ask(server.url, name, { hosts: ["127.0.0.1"] })).toEqual({ kind: "value", value: 1 });
    expect(await readsOf(name, since)).toHaveLength(1);
  });

  test("[40.10] a Secret the ServiceAccount cannot read is a source error, and no request leaves", async () => {
    const name = await secret("hidden", { token: "s3cret" });
    const before = server.queries.length;
    const answer = await ask(server.url, name, { as: "stranger" });
    expect(problem(answer)).toContain(
      `User "system:serviceaccount:${namespace}:stranger" cannot get resource "secrets"`,
    );
    expect(server.queries).toHaveLength(before);
  });

  test("[50.11] of a metric's secretRef: without get it fails, with get it works, never as the controller", async () => {
    const name = await secret("granted", { token: "s3cret" });
    const since = await auditMark(cluster);
    server.reply(() => ({ body: '{"left":1}' }));
    await createServiceAccount(cluster, { namespace, name: "late" });
    expect(problem(await ask(server.url, name, { as: "late" }))).toContain("cannot get resource");
    await createServiceAccount(cluster, { namespace, name: "late", rules: rulesOn(["secrets"], ["get"]) });
    // The authorizer learns of the grant by a watch.
    await eventually(async () => (await ask(server.url, name, { as: "late" })).kind === "value");
    const reads = await readsOf(name, since);
    expect([reads[0]?.code, reads.at(-1)?.code]).toEqual([403, 200]);
    expect(new Set(reads.map(({ username }) => username))).toEqual(
      new Set([`system:serviceaccount:${namespace}:late`]),
    );
  });

  test("a ServiceAccount that does not exist is a source error", async () => {
    const before = server.queries.length;
    expect(problem(await ask(server.url, "any", { as: "nobody" }))).toMatch(
      /ServiceAccount ".*\/nobody" does not exist/,
    );
    expect(server.queries).toHaveLength(before);
  });
});
