import { describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { auditEvents, auditMark, eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, stageStatus, untilReady } from "../support/controller.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";
import { everyVerb, rulesOn, startTenancy } from "../support/tenancy.ts";

const cluster = testCluster();
const { admin } = cluster;
const rbac = "rbac.authorization.k8s.io";

describe.concurrent(
  "what an identity may not do",
  () => {
    test("[20.20] a Secret it cannot read fails the stage by name, and no value is anywhere", async () => {
      await using tenancy = await startTenancy(cluster);
      const { namespace } = tenancy;
      await tenancy.account("deployer", rulesOn(["configmaps"], everyVerb));
      const value = "0pen-s3same";
      await admin.create({
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: "words", namespace },
        stringData: { WORD: value },
      });
      await tenancy.publish("app", { "a.yaml": configMap("app", { word: "${WORD}" }) });
      const postBuild = { substituteFrom: [{ kind: "Secret", name: "words" }] };
      await tenancy.release("app", {
        serviceAccountName: "deployer",
        stages: [{ name: "only", sourceRef: { name: "app" }, postBuild }],
      });
      const refused = await untilReady(cluster, { namespace, name: "app" }, "False RBACDenied");
      expect(messageOf(refused)).toMatch(
        new RegExp(
          `^stage "only" resolve postBuild variables: .*Secret "${namespace}/words".*cannot get resource "secrets"`,
        ),
      );
      expect(
        await admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "app", namespace } }),
      ).toBeUndefined();
      const events = await eventually(async () => {
        const seen = await stageSetEvents(cluster, { namespace, name: "app", reason: "RBACDenied" });
        return seen.length > 0 && seen;
      });
      const said = JSON.stringify([refused, events, tenancy.controller.logs, await tenancy.controller.metrics()]);
      expect(said).not.toContain(value);
      expect(said).not.toContain(Buffer.from(value).toString("base64"));
    });

    test.each(["held rights", "escalate"] as const)(
      "[20.49] a Role that grants more than the identity holds is RBACDenied, looked at every minute, mended by %s",
      async (how) => {
        await using tenancy = await startTenancy(cluster);
        const { namespace } = tenancy;
        const roles = rulesOn(["roles"], everyVerb, rbac);
        const account = await tenancy.account("deployer", roles);
        const since = await auditMark(cluster);
        const role = {
          apiVersion: `${rbac}/v1`,
          kind: "Role",
          metadata: { name: "wide" },
          rules: rulesOn(["secrets"], ["get"]),
        };
        await tenancy.publish("app", { "a.yaml": stringify(role) });
        await tenancy.release("app", {
          serviceAccountName: "deployer",
          retryInterval: "1s",
          stages: [{ name: "only", sourceRef: { name: "app" } }],
        });
        const refused = await untilReady(cluster, { namespace, name: "app" }, "False RBACDenied");
        expect(messageOf(refused)).toContain(`user "${account.username}"`);
        expect(messageOf(refused)).toMatch(/is attempting to grant RBAC permissions not currently held/);
        expect(stageStatus(refused, "only")).toMatchObject({ phase: "Failed" });
        const more = how === "escalate" ? rulesOn(["roles"], ["escalate"], rbac) : rulesOn(["secrets"], ["get"]);
        await tenancy.account("deployer", [...roles, ...more]);
        await untilReady(cluster, { namespace, name: "app" }, "True Succeeded", { timeoutMs: 5 * 65_000 });
        const tries = (
          await auditEvents(cluster, {
            since,
            namespace,
            username: account.username,
            resource: "roles",
            verbs: ["patch"],
          })
        ).filter((event) => event.name === "wide" && event.uri.includes("dryRun"));
        expect(tries, "one refused, one accepted a minute later").toHaveLength(2);
        const gap = Date.parse(tries[1]?.receivedAt ?? "") - Date.parse(tries[0]?.receivedAt ?? "");
        expect(gap).toBeGreaterThan(55_000);
      },
    );
  },
  360_000,
);
