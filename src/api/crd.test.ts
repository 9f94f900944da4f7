import { describe, expect, test } from "vitest";
import { type CrdSchema, renderCrds } from "./crd.ts";
import { asArray, asObject, at } from "../lib/json.ts";

const crds = renderCrds();

interface Field {
  readonly path: string;
  readonly schema: CrdSchema;
}

/** Every schema in a definition, with a path such as `StageSet.spec.stages[].name`. */
function* fieldsOf(schema: CrdSchema, path: string): Generator<Field> {
  yield { path, schema };
  for (const [name, member] of Object.entries(schema.properties ?? {})) yield* fieldsOf(member, `${path}.${name}`);
  if (schema.items !== undefined) yield* fieldsOf(schema.items, `${path}[]`);
}

const fields = crds.flatMap(({ spec }) => {
  const kind = String(at(spec, "names", "kind"));
  // What renderCrds puts there.
  const root = at(asArray(at(spec, "versions"))[0], "schema", "openAPIV3Schema") as CrdSchema;
  return [...fieldsOf(root, kind)];
});

/** Paths of the fields that have a keyword, with its value. */
function having(keyword: string): Readonly<Record<string, unknown>> {
  const found = fields.filter(({ schema }) => schema[keyword] !== undefined);
  return Object.fromEntries(found.map(({ path, schema }) => [path, schema[keyword]]));
}

describe("the definitions", () => {
  test.each(crds.map((crd) => [crd.metadata.name, crd] as const))("%s fits a client-side apply", (_, crd) => {
    expect(Buffer.byteLength(JSON.stringify(crd))).toBeLessThan(200_000);
  });

  test("every field but metadata is described, once and with an end", () => {
    const bare = fields.filter(
      ({ path, schema }) => !path.endsWith(".metadata") && !/^\S.*[^.]\.$/.test(schema.description ?? ""),
    );
    expect(bare.map(({ path, schema }) => [path, schema.description])).toEqual([]);
  });

  test("no keyword is ours", () => {
    const unknown = fields
      .flatMap(({ schema }) => Object.keys(schema))
      .filter((keyword) => /^x-(?!kubernetes-)|^~/.test(keyword));
    expect(unknown).toEqual([]);
  });

  test("the API server sets two defaults", () => {
    expect(having("default")).toEqual({
      "StageSet.spec.stages[].conflictPolicy.default": "Fail",
      "FleetRollout.spec.onRegression": "Halt",
    });
  });

  test("lists whose order is no meaning are merged by key, those of selectors are atomic, all others have no type", () => {
    const types = having("x-kubernetes-list-type");
    const keys = having("x-kubernetes-list-map-keys");
    const merged = Object.entries(types).filter(([, type]) => type === "map");
    expect(Object.fromEntries(merged.map(([path]) => [path, keys[path]]))).toEqual({
      "StageSet.spec.stages[].promotion.restartGate.checks": ["name"],
      "StageSet.spec.stages[].promotion.eventGate.checks": ["name"],
      "StageSet.status.conditions": ["type"],
      "StageLedger.status.conditions": ["type"],
      "FleetRollout.status.waves": ["name"],
      "FleetRollout.status.conditions": ["type"],
    });
    const others = Object.entries(types).filter(([, type]) => type !== "map");
    expect(
      others.filter(([path, type]) => type !== "atomic" || !/matchExpressions(\[\]\.values)?$/.test(path)),
    ).toEqual([]);
  });

  test("selectors are atomic maps, and nothing else is", () => {
    const selectors = fields.filter(({ schema }) => schema.properties?.["matchExpressions"] !== undefined);
    expect(selectors.length).toBeGreaterThan(4);
    expect(Object.keys(having("x-kubernetes-map-type")).sort()).toEqual(selectors.map(({ path }) => path).sort());
  });

  test("two rules are evaluated by the API server", () => {
    expect(Object.keys(having("x-kubernetes-validations"))).toEqual(["StageSet.spec.kubeConfig", "FleetRollout.spec"]);
  });

  test("neither spec nor status is required", () => {
    const roots = fields.filter(({ path }) => !path.includes("."));
    expect(roots.map(({ path, schema }) => [path, schema.required])).toEqual(
      crds.map(({ spec }) => [at(spec, "names", "kind"), undefined]),
    );
  });

  test("a stored list needs as much as the schema says, not more", () => {
    expect(having("minItems")).toEqual({
      "StageSet.spec.stages": 1,
      "StageSet.spec.stages[].promotion.analysis.checks": 1,
      "StageSet.spec.stages[].promotion.eventGate.checks[].reasons": 1,
      "FleetRollout.spec.waves": 1,
      "ImageVerificationPolicy.spec.images": 1,
    });
  });

  test("kinds with a status have it as subresource", () => {
    const subresources = crds.map(({ spec }) => {
      const version = asArray(at(spec, "versions"))[0];
      return [at(spec, "names", "kind"), Object.keys(asObject(at(version, "subresources")) ?? {})];
    });
    expect(Object.fromEntries(subresources)).toEqual({
      StageSet: ["status"],
      StageInventory: [],
      StageLedger: ["status"],
      FleetRollout: ["status"],
      ImageVerificationPolicy: [],
    });
  });
});
