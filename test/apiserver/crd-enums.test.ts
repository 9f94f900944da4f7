import { describe, expect, test } from "vitest";
import { type CrdSchema, renderCrds } from "../../src/api/crd.ts";
import { apiVersion } from "../../src/api/group.ts";
import { asArray, asText, at } from "../../src/lib/json.ts";
import { type ApiReply } from "../support/test-client.ts";
import { testCluster, uniqueName } from "../support/cluster.ts";
import { enumFields, pathText, sampleOf, sampleWith } from "./crd-samples.ts";

const kinds = renderCrds().map(({ spec }) => {
  const version = asArray(at(spec, "versions"))[0];
  // What renderCrds puts there.
  const { properties = {} } = at(version, "schema", "openAPIV3Schema") as CrdSchema;
  const namespaced = at(spec, "scope") === "Namespaced";
  const plural = asText(at(spec, "names", "plural")) ?? "";
  const collection = `/apis/${apiVersion}/${namespaced ? "namespaces/default/" : ""}${plural}`;
  return {
    kind: asText(at(spec, "names", "kind")) ?? "",
    collection,
    spec: properties["spec"],
    status: properties["status"],
  };
});
type Kind = (typeof kinds)[number];

const cases = kinds.flatMap((kind) =>
  (["spec", "status"] as const).flatMap((root) => {
    const schema = kind[root];
    if (schema === undefined) return [];
    return [...enumFields(schema)].map(({ steps, values }) => {
      const title = `${kind.kind}.${pathText(root, steps)}`;
      return { title, kind, root, schema, steps, values };
    });
  }),
);

/** Values that no enum with these lists. */
function unlisted(values: readonly string[]): readonly string[] {
  const variants = values.flatMap((value) => [value.toLowerCase(), value.toUpperCase(), `${value} `, swapFirst(value)]);
  return [...new Set(["", "Unlisted", ...variants])].filter((value) => !values.includes(value));
}

function swapFirst(value: string): string {
  const first = value.charAt(0);
  return (first === first.toLowerCase() ? first.toUpperCase() : first.toLowerCase()) + value.slice(1);
}

describe("enums", () => {
  const { admin } = testCluster();
  const stored = new Map<string, Promise<string>>();

  /** An object whose status can be written; one for each kind. */
  function storedName({ kind, collection, spec }: Kind): Promise<string> {
    const known = stored.get(kind);
    if (known !== undefined) return known;
    const creating = (async () => {
      const metadata = { name: uniqueName() };
      const body = { apiVersion, kind, metadata, spec: spec === undefined ? {} : sampleOf(spec) };
      expect(await admin.request("POST", collection, { body })).toMatchObject({ status: 201 });
      return metadata.name;
    })();
    stored.set(kind, creating);
    return creating;
  }

  /** Asks the API server whether it would take a value. */
  async function dryRun({ kind, root, schema, steps }: (typeof cases)[number], value: string): Promise<ApiReply> {
    const sample = sampleWith(schema, steps, value);
    if (root === "status") {
      const path = `${kind.collection}/${await storedName(kind)}/status?dryRun=All`;
      return admin.request("PATCH", path, { body: { status: sample }, contentType: "application/merge-patch+json" });
    }
    const previousVersion = kind.kind === "FleetRollout" ? { previousVersion: "1.0.0" } : {}; // Rollback needs it.
    const body = {
      apiVersion,
      kind: kind.kind,
      metadata: { name: uniqueName() },
      spec: { ...(sample as object), ...previousVersion }, // The root of every spec is an object.
    };
    return admin.request("POST", `${kind.collection}?dryRun=All`, { body });
  }

  test("there are enums in all kinds that have any", () => {
    expect(cases.length).toBeGreaterThan(40);
    expect([...new Set(cases.map(({ kind }) => kind.kind))]).toEqual(["StageSet", "StageLedger", "FleetRollout"]);
  });

  test.each(cases)("[10.4] $title takes its values as they are written, and no other", async (one) => {
    for (const value of one.values)
      expect([value, (await dryRun(one, value)).status]).toEqual([value, one.root === "status" ? 200 : 201]);
    for (const value of unlisted(one.values)) {
      const { status, body } = await dryRun(one, value);
      const causes = asArray(at(body, "details", "causes")).map((cause) => [at(cause, "field"), at(cause, "reason")]);
      expect([value, status, at(body, "reason")]).toEqual([value, 422, "Invalid"]);
      expect(causes).toContainEqual([pathText(one.root, one.steps), "FieldValueNotSupported"]);
    }
  });
});
