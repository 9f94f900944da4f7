import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type Migration, parseStageSet } from "../../api/stage-set.ts";
import { isList } from "../../lib/canonical-json.ts";
import type { Json } from "../../lib/json.ts";
import { digestInput, migrationDigest } from "./migration-digest.ts";
import { readMigrations } from "./read-migrations.ts";
import { readLadderFile } from "../../build/ladder-file.ts";

const page = readFileSync(new URL("../../../docs/reference/migration-digests.md", import.meta.url), "utf8");
const vectors = [...page.matchAll(/^Digest `(\S+)`:\n\n```(yaml|json)\n(.*?)^```$/gms)].map(
  ([, digest = "", syntax = "", text = ""], index) => ({ title: `${index + 1}, ${syntax}`, digest, text }),
);

/** Of an artifact. */
function sourced(text: string): Migration {
  const { migrations, problems } = readMigrations([
    readLadderFile({ path: "m.yaml", bytes: new TextEncoder().encode(text) }),
  ]);
  expect(problems).toEqual([]);
  const [only] = migrations;
  if (only === undefined || migrations.length > 1) throw new Error("want one migration");
  return only.migration;
}

const json = (text: string): Json => JSON.parse(text) as Json; // Which is what it parses.

/** Of a spec, as the API server would hand it out. */
function inline(migration: Json): Migration {
  const parsed = parseStageSet({
    metadata: { name: "shop", namespace: "shop" },
    spec: { stages: [{ name: "db", sourceRef: { name: "db" } }], migrations: [migration] },
  });
  if (parsed.kind !== "valid" || parsed.value.spec.migrations?.[0] === undefined)
    throw new Error(`invalid: ${JSON.stringify(parsed)}`);
  return parsed.value.spec.migrations[0];
}

/** The value with one leaf changed, one member dropped or one item repeated: once for each that there is. */
function* changes(value: Json): Generator<Json> {
  if (typeof value === "object" && value !== null && isList(value)) {
    if (value.length > 0) yield [...value, value[0] ?? null];
    for (const [index, item] of value.entries()) for (const changed of changes(item)) yield value.with(index, changed);
  } else if (typeof value === "object" && value !== null) {
    const members = Object.entries(value);
    for (const [key, member = null] of members) {
      if (member !== "") yield Object.fromEntries(members.filter(([other]) => other !== key));
      for (const changed of changes(member)) yield { ...value, [key]: changed };
    }
    yield { ...value, added: "x" };
  } else if (typeof value === "string") {
    yield `${value} `;
    yield value.toUpperCase() === value ? `${value}x` : value.toUpperCase();
  } else if (typeof value === "number") yield value + 1;
  else if (typeof value === "boolean") yield !value;
}

describe("digests of migrations", () => {
  test("[10.19] the example of the specification", () => {
    const text =
      '{"actions":[{"job":{"path":"./copy","sourceRef":{"kind":"OCIRepository","name":"db-tools"}},"name":"copy","retries":0},{"http":{"url":"https://hooks.example/µ?a=1&b=2"},"name":"tell"}],"down":[{"delete":{"target":{"apiVersion":"v1","kind":"ConfigMap","name":"split-done"}},"name":"undo","timeout":"90s"}],"from":">=1.0.0 <1.4.0","name":"split-orders","stage":"db","to":"1.4.0"}';
    expect(migrationDigest(inline(json(text)))).toBe("a4a19d36a8ea");
    expect(migrationDigest(sourced(text))).toBe("a4a19d36a8ea");
  });

  test.each(vectors)("[10.19] published vector $title, in an artifact and in a spec: $digest", ({ text, digest }) => {
    const migration = sourced(text);
    expect(migrationDigest(migration)).toBe(digest);
    // What the API server stores went through JSON.
    expect(migrationDigest(inline(json(JSON.stringify(migration))))).toBe(digest);
  });

  test("[10.19] there are vectors for each of the stated cases", () => {
    expect(vectors.length).toBeGreaterThanOrEqual(10);
    for (const part of ["<", "&", "µ", "\\u2028", "retries: 0", "wait: {}"]) expect(page).toContain(part);
  });

  test.each(vectors)("[10.19] any changed value of vector $title changes the digest", ({ text }) => {
    const migration = sourced(text);
    const stored: Json = json(digestInput(migration));
    const digests = [...changes(stored)].map((changed) => migrationDigest(changed as unknown as Migration)); // Or none.
    expect(digests.length).toBeGreaterThan(3);
    expect(digests).not.toContain(migrationDigest(migration));
  });

  test("what is empty does not count as a member, but does as an item", () => {
    expect(digestInput({ a: null, b: "", c: [], d: {}, e: false, f: 0, g: ["", null, []] })).toBe(
      '{"d":{},"e":false,"f":0,"g":["",null,[]]}',
    );
  });

  test("keys are in the order of UTF-16, and one that names a property of all objects is a key", () => {
    expect(digestInput(json('{"\\ufb33":1,"\\ud83d\\ude00":2,"b":3,"__proto__":4,"A":5}'))).toBe(
      '{"A":5,"__proto__":4,"b":3,"\u{1f600}":2,"\ufb33":1}',
    );
  });
});
