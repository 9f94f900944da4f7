import { describe, expect, test } from "vitest";
import { type CrdSchema, renderCrds } from "../../src/api/crd.ts";
import { apiGroup, apiVersion } from "../../src/api/group.ts";
import { startControlPlane } from "../../src/dev/control-plane.ts";
import { readCrds } from "../../src/dev/crds.ts";
import { asArray, asObject, asText, at } from "../../src/lib/json.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { createTestClient } from "../support/test-client.ts";

const crdPath = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration";

describe("installing the definitions", () => {
  test("[10.1] they are taken client-side, then server-side without a conflict, and become Established", async () => {
    await using controlPlane = await startControlPlane();
    const admin = createTestClient({ ...controlPlane, token: controlPlane.adminToken });
    const definitions = await readCrds("stageset");
    expect(definitions).toHaveLength(5);
    for (const definition of definitions) {
      const body = withLastApplied(definition);
      const created = await admin.request("POST", `${crdPath}?fieldManager=kubectl-client-side-apply`, { body });
      expect([created.status, at(created.body, "message")]).toEqual([201, undefined]);
    }
    for (const definition of definitions) {
      const one = `${crdPath}/${asText(at(definition, "metadata", "name")) ?? ""}`;
      await eventually(async () =>
        expect(await conditions(one)).toMatchObject({ Established: "True", NamesAccepted: "True" }),
      );
      const contentType = "application/apply-patch+yaml";
      const applied = await admin.request("PATCH", `${one}?fieldManager=kubectl`, { body: definition, contentType });
      expect([applied.status, at(applied.body, "message")]).toEqual([200, undefined]);
      expect(await conditions(one)).toMatchObject({ Established: "True" });
      expect(await conditions(one)).not.toHaveProperty("NonStructuralSchema");
    }

    async function conditions(path: string): Promise<Readonly<Record<string, unknown>>> {
      const { body } = await admin.request("GET", path);
      return Object.fromEntries(
        asArray(at(body, "status", "conditions")).map((one) => [asText(at(one, "type")) ?? "", at(one, "status")]),
      );
    }
  });

  test("[10.1] they are taken server-side where nothing is installed, and become Established", async () => {
    const { admin } = testCluster(); // Set up that way.
    for (const { metadata } of renderCrds()) {
      const { body } = await admin.request("GET", `${crdPath}/${metadata.name}`);
      const states = asArray(at(body, "status", "conditions")).map(
        (one) => `${String(at(one, "type"))} ${String(at(one, "status"))}`,
      );
      expect(states).toContain("Established True");
      expect(at(body, "metadata", "annotations", lastApplied)).toBeUndefined();
    }
  });

  test.each(renderCrds().map((crd) => [String(at(crd.spec, "names", "kind")), crd] as const))(
    "[10.1] kubectl explain has a description for each field of %s",
    async (kind, crd) => {
      const { admin } = testCluster();
      const schemas = await eventually(async () => {
        const { body } = await admin.request("GET", `/openapi/v3/apis/${apiVersion}`);
        return asObject(at(body, "components", "schemas"));
      });
      const name = `wtf.metio.stages.v1.${kind}`;
      const served = [...explained(schemas, schemas[name], kind)];
      expect(served.filter(({ description }) => description === undefined)).toEqual([]);
      const root = at(asArray(at(crd.spec, "versions"))[0], "schema", "openAPIV3Schema") as CrdSchema; // From renderCrds.
      expect(served.map(({ path }) => path).sort()).toEqual(fieldPaths(root, kind).sort());
    },
  );
});

function withLastApplied(definition: unknown): unknown {
  const metadata = asObject(at(definition, "metadata"));
  const annotations = { [lastApplied]: `${JSON.stringify(definition)}\n` };
  return { ...asObject(definition), metadata: { ...metadata, annotations } };
}

interface Explained {
  readonly path: string;
  readonly description: string | undefined;
}

/** Every field below a served schema; those of metadata are the API server's own. */
function* explained(schemas: unknown, schema: unknown, path: string): Generator<Explained> {
  for (const [name, member] of Object.entries(asObject(at(schema, "properties")) ?? {})) {
    const reference = asText(at(member, "$ref")) ?? asText(at(asArray(at(member, "allOf"))[0], "$ref"));
    const target = reference === undefined ? undefined : at(schemas, reference.replace(/^.*\//, ""));
    const memberPath = `${path}.${name}`;
    yield { path: memberPath, description: asText(at(member, "description")) ?? asText(at(target, "description")) };
    if (target === undefined) yield* explained(schemas, at(member, "items") ?? member, memberPath);
  }
}

function fieldPaths(schema: CrdSchema, path: string): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, member]) => [
    `${path}.${name}`,
    ...fieldPaths(member.items ?? member, `${path}.${name}`),
  ]);
}

describe("discovery", () => {
  const { admin } = testCluster();

  test("[10.2] short names, scopes and subresources are those of the kinds, and there are no others", async () => {
    const { body } = await admin.request("GET", `/apis/${apiVersion}`);
    const resources = asArray(at(body, "resources")).map((one) => ({
      name: at(one, "name"),
      kind: at(one, "kind"),
      singular: at(one, "singularName"),
      namespaced: at(one, "namespaced"),
      shortNames: asArray(at(one, "shortNames")),
      categories: asArray(at(one, "categories")),
    }));
    const row = (name: string, kind: string, namespaced: boolean, ...shortNames: readonly string[]) => {
      const singular = name.includes("/") ? "" : kind.toLowerCase();
      return { name, kind, singular, namespaced, shortNames, categories: [] };
    };
    expect(resources.sort((a, b) => String(a.name).localeCompare(String(b.name)))).toEqual([
      row("fleetrollouts", "FleetRollout", false, "fleet"),
      row("fleetrollouts/status", "FleetRollout", false),
      row("imageverificationpolicies", "ImageVerificationPolicy", false, "ivp"),
      row("stageinventories", "StageInventory", true),
      row("stageledgers", "StageLedger", true, "sledger"),
      row("stageledgers/status", "StageLedger", true),
      row("stagesets", "StageSet", true),
      row("stagesets/status", "StageSet", true),
    ]);
  });

  test("one version is served and stored", async () => {
    const { body } = await admin.request("GET", `/apis/${apiGroup}`);
    expect(at(body, "versions")).toEqual([{ groupVersion: apiVersion, version: "v1" }]);
  });
});
