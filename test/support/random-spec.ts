import fc from "fast-check";
import { renderCrds, type CrdSchema } from "../../src/api/crd.ts";
import { asArray, asObject, at } from "../../src/lib/json.ts";

/** The schema of `spec` as the API server holds it. */
export function specSchema(): CrdSchema {
  const crd = renderCrds().find((each) => each.metadata.name === "stagesets.stages.metio.wtf");
  const root = at(crd?.spec, "versions", "0", "schema", "openAPIV3Schema") ?? versionSchema(crd?.spec);
  const schema = asObject(at(root, "properties", "spec"));
  if (schema === undefined) throw new Error("the definition of StageSet has no spec");
  return schema as unknown as CrdSchema; // Rendered from CrdSchema.
}

function versionSchema(spec: unknown): unknown {
  return at(asArray(at(spec, "versions"))[0], "schema", "openAPIV3Schema");
}

const edgeTexts = [
  "",
  "a",
  "A_b",
  "0",
  "1s",
  "-1h",
  "9999999999h",
  "x".repeat(300),
  "é\u0000",
  "*",
  "{}",
  "../x",
  "${v}",
  "true",
];
const edgeNumbers = [0, 1, -1, 2 ** 31 - 1, 2 ** 31, Number.MAX_SAFE_INTEGER];

/** Values a schema admits, mostly, with those at the edges; now and then of another type. */
export function valueOf(schema: CrdSchema, depth = 0): fc.Arbitrary<unknown> {
  const proper = properValue(schema, depth);
  const wrong = fc.constantFrom<unknown>(null, 7, "text", [], {}, true, [[]]);
  return fc.oneof({ weight: 30, arbitrary: proper }, { weight: 1, arbitrary: wrong });
}

function properValue(schema: CrdSchema, depth: number): fc.Arbitrary<unknown> {
  switch (schema.type) {
    case "object": {
      const { properties = {}, required = [] } = schema;
      if (Object.keys(properties).length === 0)
        return fc.dictionary(fc.constantFrom("a", "b.c/d"), fc.constantFrom(...edgeTexts));
      const members = Object.fromEntries(
        Object.entries(properties)
          .filter(([name]) => depth < 5 || required.includes(name))
          .map(([name, member]) => [
            name,
            required.includes(name)
              ? valueOf(member, depth + 1)
              : fc.option(valueOf(member, depth + 1), { nil: undefined, freq: 1 + depth > 3 ? 1 : 3 }),
          ]),
      );
      // A member that is not given is absent.
      return fc.record(members).map((value) => JSON.parse(JSON.stringify(value)) as unknown);
    }
    case "array":
      return schema.items === undefined
        ? fc.constant([])
        : fc.array(valueOf(schema.items, depth + 1), { minLength: 0, maxLength: 2 });
    case "integer":
      return fc.constantFrom(...edgeNumbers);
    case "boolean":
      return fc.boolean();
    default:
      return Array.isArray(schema["enum"])
        ? fc.oneof(
            { weight: 9, arbitrary: fc.constantFrom(...schema["enum"].map(String)) },
            fc.constantFrom(...edgeTexts),
          )
        : fc.constantFrom(...edgeTexts, "1m", "2026-01-31T08:00:00Z", "v1", "ConfigMap", "web");
  }
}

/** A good spec with one to three members, of it or of its first stage, set to something else. */
export function editedSpec(good: Readonly<Record<string, unknown>>): fc.Arbitrary<Readonly<Record<string, unknown>>> {
  const schema = specSchema();
  const stageSchema = schema.properties?.["stages"]?.items;
  const edits = (of: CrdSchema | undefined): fc.Arbitrary<Readonly<Record<string, unknown>>> =>
    fc.oneof(
      ...Object.entries(of?.properties ?? {})
        .filter(([name]) => name !== "stages")
        .map(([name, member]) => valueOf(member, 2).map((value) => ({ [name]: value }))),
    );
  return fc
    .array(
      fc.oneof(
        edits(schema).map((change) => ({ spec: change, stage: {} })),
        edits(stageSchema).map((change) => ({ spec: {}, stage: change })),
      ),
      { minLength: 1, maxLength: 3 },
    )
    .map((changes) => {
      const [first, ...rest] = asArray(good["stages"]);
      const stage = Object.assign({}, first, ...changes.map((each) => each.stage)) as unknown;
      return Object.assign({}, good, ...changes.map((each) => each.spec), { stages: [stage, ...rest] }) as Readonly<
        Record<string, unknown>
      >;
    });
}
