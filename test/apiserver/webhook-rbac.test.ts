import { describe, expect, test } from "vitest";
import { skipImageVerificationAnnotation } from "../../src/api/keys.ts";
import { declaredRoles, type DeclaredRule } from "../../scripts/chart/permissions.ts";
import { installWebhook, startReplica, type Replica, type WebhookInstall } from "../support/admission.ts";
import {
  createServiceAccount,
  eventually,
  testCluster,
  uniqueName,
  uniqueNamespace,
  type PolicyRule,
} from "../support/cluster.ts";
import { createStageSet, stageSetRef } from "../support/controller.ts";

const cluster = testCluster();
const { admin } = cluster;
const sound = { stages: [{ name: "web", sourceRef: { name: "app" } }] };

/** The rules that admission needs, and what is seen without each of them. */
const ofCertificate: readonly DeclaredRule[] = declaredRoles.webhookCert.rules;
const ofCluster: readonly DeclaredRule[] = declaredRoles.cluster.rules;
const reviewing = ofCluster.filter(({ resources }) => resources.includes("subjectaccessreviews"));
const configuring = ofCluster.filter(({ resources }) => resources.includes("validatingwebhookconfigurations"));

function policyOf({ apiGroup, resources, verbs, only }: DeclaredRule, install: WebhookInstall): PolicyRule {
  const names = { certificate: install.secretName, "webhook configuration": install.configurationName, lease: "" };
  return {
    apiGroups: [apiGroup],
    resources,
    verbs,
    ...(only === undefined ? {} : { resourceNames: [names[only]] }),
  };
}

interface Scene {
  readonly namespace: string;
  readonly install: WebhookInstall;
  readonly replica: Replica;
}

/** A replica under a ServiceAccount with the declared rules, without one of them. */
async function startWithout(missing: DeclaredRule | undefined): Promise<Scene> {
  const namespace = await uniqueNamespace(cluster);
  const install = await installWebhook(cluster, { judged: [namespace] });
  const left = (rules: readonly DeclaredRule[]): readonly PolicyRule[] =>
    rules.filter((rule) => rule !== missing).map((rule) => policyOf(rule, install));
  const account = await createServiceAccount(cluster, {
    namespace: install.namespace,
    name: "stageset-controller",
    rules: left(ofCertificate),
    clusterRules: left([...configuring, ...reviewing]),
  });
  return {
    namespace,
    install,
    replica: await startReplica(cluster, install, { token: account.token, port: install.port }),
  };
}

describe.concurrent("rights that admission needs", () => {
  test.for([
    ["creating the Secret", ofCertificate[0], /^secrets: .*cannot create resource "secrets"/],
    ["the Secret", ofCertificate[1], /^secrets: .*cannot get resource "secrets"/],
    ["the configuration", configuring[0], /validatingwebhookconfigurations.*: .*cannot get resource/],
  ] as const)(
    "[50.44] without the rule for %s admission is not served, what is missing is told, and nothing crashes",
    async ([_title, rule, symptom]) => {
      expect(rule).toBeDefined();
      const { install, replica } = await startWithout(rule);
      await using _ = replica;
      await eventually(() =>
        replica.webhook.missing().some(({ resource, reason }) => symptom.test(`${resource}: ${reason}`)),
      );
      expect(replica.webhook.isReady()).toBe(false);
      expect(replica.logs.join("\n")).not.toContain("no longer keeping the certificate");
      await install.unregister();
    },
  );

  test("[50.44] without SubjectAccessReviews nobody breaks the glass, and all else is judged as before", async () => {
    const [rule] = reviewing;
    expect(rule).toBeDefined();
    const annotated = async ({ namespace }: Scene): Promise<string> => {
      const name = uniqueName();
      await createStageSet(cluster, { namespace, name, spec: sound });
      const annotations = { [skipImageVerificationAnnotation]: "outage" };
      return admin.patch(stageSetRef(namespace, name), { metadata: { annotations } }).then(
        () => "admitted",
        (error: unknown) => String(error),
      );
    };
    const [whole, without] = [await startWithout(undefined), await startWithout(rule)];
    await using _whole = whole.replica;
    await using _without = without.replica;
    for (const { replica } of [whole, without]) await eventually(() => replica.webhook.isReady());
    await eventually(async () => (await annotated(whole)) === "admitted");
    await eventually(async () => (await annotated(without)).includes("which cannot be checked"));
    await whole.install.unregister();
    await without.install.unregister();
  });
});
