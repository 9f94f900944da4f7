import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { allRights, declaredRoles, type DeclaredRole, type DeclaredRule } from "../../scripts/chart/permissions.ts";
import { publishArtifact, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import {
  allRules,
  auditEvents,
  auditMark,
  createServiceAccount,
  eventually,
  testCluster,
  uniqueNamespace,
  type AuditEvent,
  type PolicyRule,
} from "../support/cluster.ts";
import {
  configMap,
  createStageSet,
  messageOf,
  readyOf,
  stageSetRef,
  startTestController,
  untilReady,
  type TestController,
} from "../support/controller.ts";

const cluster = testCluster();
const { admin } = cluster;

const rulesOf = (role: DeclaredRole): readonly DeclaredRule[] =>
  role.rules.filter(({ when }) => (when ?? "always") === "always");
const tenantRules = rulesOf(declaredRoles.tenant);
const clusterRules = rulesOf(declaredRoles.cluster);
const leaseRules = rulesOf(declaredRoles.leaderElection);

const policyOf = ({ apiGroup, resources, verbs }: DeclaredRule): PolicyRule => ({
  apiGroups: [apiGroup],
  resources,
  verbs,
});
const nameOf = ({ apiGroup, resources }: DeclaredRule): string =>
  `${resources.join(", ")}${apiGroup === "" ? "" : `.${apiGroup}`}`;

interface Scene {
  readonly namespace: string;
  readonly username: string;
  readonly controller: TestController;
}

/** A controller under a ServiceAccount with the declared rules, without one of them. */
async function startUnder(without?: DeclaredRule): Promise<Scene> {
  const namespace = await uniqueNamespace(cluster, "rbac");
  const left = (rules: readonly DeclaredRule[]): readonly PolicyRule[] =>
    rules.filter((rule) => rule !== without).map(policyOf);
  const self = await createServiceAccount(cluster, {
    namespace,
    name: "stageset-controller",
    rules: [...left(tenantRules), ...left(leaseRules)],
    clusterRules: left(clusterRules),
  });
  await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
  const controller = await startTestController(cluster, {
    namespaces: [namespace],
    token: self.token,
    config: { leaderElect: true, leaderElectionNamespace: namespace },
  });
  return { namespace, username: self.username, controller };
}

describe("rights of the controller", () => {
  let server: ArtifactServer;
  beforeAll(async () => {
    server = await startArtifactServer();
  });
  afterAll(() => server.stop());

  const release = async (namespace: string, stages: readonly string[]): Promise<void> => {
    for (const stage of stages)
      await publishArtifact(cluster, { server, namespace, name: stage, files: { "a.yaml": configMap(stage) } });
    await createStageSet(cluster, {
      namespace,
      name: "app",
      spec: {
        serviceAccountName: "deployer",
        stages: stages.map((name) => ({ name, sourceRef: { name } })),
      },
    });
  };

  test("[60.21] [50.44] a life of a StageSet uses each right that is declared, but those of features to come, and no other", async () => {
    const since = await auditMark(cluster);
    const { namespace, username, controller } = await startUnder();
    try {
      await release(namespace, ["one", "two"]);
      await untilReady(cluster, { namespace, name: "app" });
      // An open gate is confirmed by live reads.
      await eventually(async () => expect((await controller.gate(`/gate/${namespace}/app/one`)).status).toBe(200));
      await admin.patch(stageSetRef(namespace, "app"), {
        spec: { stages: [{ name: "one", sourceRef: { name: "one" } }] },
      });
      await eventually(async () =>
        expect(
          await admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "two", namespace } }),
        ).toBeUndefined(),
      );
      await untilReady(cluster, { namespace, name: "app" });
      await admin.delete(stageSetRef(namespace, "app"));
      await eventually(async () => expect(await admin.get(stageSetRef(namespace, "app"))).toBeUndefined());
    } finally {
      await controller[Symbol.asyncDispose]();
    }
    const events = await auditEvents(cluster, { since, username, where: ({ resource }) => resource !== "" });
    const refused = events.filter(({ code }) => code === 403).map(rightOf);
    expect([...new Set(refused)]).toEqual([]);
    const used = new Set(events.map(rightOf));
    const declared = allRights([...tenantRules, ...clusterRules, ...leaseRules]);
    const allowed = new Set(declared.map(({ right }) => right));
    expect(
      [...used].filter((right) => !allowed.has(right) && !/^auth[a-z]+\.k8s\.io\/selfsubject/.test(right)),
    ).toEqual([]);
    const unexplained = declared.filter(({ right, seldom, unused }) => !used.has(right) && !(seldom ?? unused));
    expect(unexplained.map(({ right }) => right)).toEqual([]);
  });

  const removed = [...tenantRules, ...clusterRules, ...leaseRules].flatMap((rule) =>
    rule.symptom === undefined ? [] : [[nameOf(rule), rule, rule.symptom] as const],
  );
  test.concurrent.each(removed)(
    "[50.44] without %s: what is seen is what is documented, and nothing crashes",
    async (_name, rule, symptom) => {
      const { namespace, controller } = await startUnder(rule);
      try {
        await release(namespace, ["only"]);
        const stageSet = () => admin.get(stageSetRef(namespace, "app"));
        const seen = async (): Promise<string> => {
          const ready = (await controller.probe("/readyz")).status === 200 ? "ready" : "not ready";
          const object = await stageSet();
          return [`probe: ${ready}`, `StageSet: ${readyOf(object)} ${messageOf(object)}`, ...controller.logs].join(
            "\n",
          );
        };
        await eventually(async () => expect(await seen()).toMatch(new RegExp(symptom, "s")), { timeoutMs: 30_000 });
        expect((await controller.probe("/healthz")).status).toBe(200);
      } finally {
        await controller[Symbol.asyncDispose]();
      }
    },
  );
});

function rightOf({ group, resource, subresource, verb }: AuditEvent): string {
  return `${group}/${resource}${subresource === "" ? "" : `/${subresource}`} ${verb}`;
}
