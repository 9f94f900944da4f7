import { describe, expect, test } from "vitest";
import { asText } from "../../src/lib/json.ts";
import { createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { startTestController, type TestController } from "../support/controller.ts";
import { startFaultProxy, type Fault } from "../support/fault-proxy.ts";

const cluster = testCluster();
const ownKinds = ["stagesets", "stageinventories", "stageledgers", "fleetrollouts"];
const notServed: Fault = { kind: "answer", status: 404, body: "404 page not found" };

/** Seconds at which the controller said that this resource is missing, and why. */
function complaints(
  controller: TestController,
  plural: string,
): readonly { readonly at: number; readonly why: string }[] {
  return controller.logs.flatMap((line) => {
    const record = JSON.parse(line) as Readonly<Record<string, unknown>>; // The logger writes objects.
    if (record["msg"] !== "waiting for a prerequisite" || record["resource"] !== `${plural}.stages.metio.wtf`)
      return [];
    expect(record["level"]).toBe("WARN");
    return [{ at: Date.parse(asText(record["time"]) ?? "") / 1_000, why: asText(record["reason"]) ?? "" }];
  });
}

const clear = (controller: TestController): boolean =>
  controller.logs.some((line) => line.includes("all prerequisites are met"));

describe("what the controller cannot do without", () => {
  test.concurrent(
    "[60.3] no CRDs: live, not ready, a WARN for each every 30 s; ready by itself when they are there",
    async () => {
      await using proxy = await startFaultProxy(cluster);
      let missing = true;
      proxy.onCall = ({ target }) => (missing && target.startsWith("/apis/stages.metio.wtf/") ? notServed : undefined);
      const namespace = await uniqueNamespace(cluster);
      await using controller = await startTestController(cluster, {
        namespaces: [namespace],
        server: proxy.server,
        caPem: "",
      });
      await eventually(() => ownKinds.every((plural) => complaints(controller, plural).length >= 2), {
        timeoutMs: 90_000,
      });
      for (const plural of ownKinds) {
        const [first, second] = complaints(controller, plural);
        expect(first?.why).toBe("CRD is not installed");
        expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(29);
        expect((second?.at ?? 0) - (first?.at ?? 0)).toBeLessThan(45);
      }
      expect((await controller.probe("/healthz")).status).toBe(200);
      expect(await controller.probe("/readyz")).toMatchObject({ status: 500 });
      expect((await controller.probe("/readyz")).body).toContain("[-]informers failed");
      expect((await controller.probe("/readyz/informers")).status).toBe(500);
      expect((await controller.probe("/readyz/ping")).status).toBe(200);
      expect((await controller.probe("/readyz?exclude=informers&exclude=gate")).status).toBe(200);
      missing = false;
      await eventually(async () => (await controller.probe("/readyz")).status === 200, { timeoutMs: 50_000 });
      expect((await controller.probe("/readyz?verbose")).body).toContain("[+]informers ok");
      await eventually(() => clear(controller), { timeoutMs: 60_000 });
    },
  );

  test.concurrent("[60.3] no rights: the denied kind is named; ready by itself when they are granted", async () => {
    const namespace = await uniqueNamespace(cluster);
    const account = await createServiceAccount(cluster, { namespace, name: "controller" });
    await using controller = await startTestController(cluster, { namespaces: [namespace], token: account.token });
    await eventually(() =>
      ownKinds.every((plural) =>
        complaints(controller, plural).some(({ why }) => why.startsWith("list or watch is denied")),
      ),
    );
    expect((await controller.probe("/healthz")).status).toBe(200);
    expect((await controller.probe("/readyz")).status).toBe(500);
    const rules = [{ apiGroups: ["*"], resources: ["*"], verbs: ["get", "list", "watch"] }];
    await createServiceAccount(cluster, { namespace, name: "controller", clusterRules: rules });
    await eventually(async () => (await controller.probe("/readyz")).status === 200, { timeoutMs: 50_000 });
    await eventually(() => clear(controller), { timeoutMs: 60_000 });
  });
});
