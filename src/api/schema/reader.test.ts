import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { durationPattern } from "../../lib/duration.ts";
import { choice, duration, flag, int32, int64, list, object, optional, text, textMap, time } from "./field.ts";
import { compileReader, type Violation } from "./reader.ts";

const schema = object("Every type of field.", {
  name: text("Required, bounded.", { minLength: 1, maxLength: 63, pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" }),
  note: optional(text("Any text.")),
  every: optional(duration("A duration.")),
  at: optional(time("A time.")),
  on: optional(flag("A flag.")),
  retries: optional(int32("Bounded.", { minimum: 0, maximum: 100 })),
  count: optional(int64("Not bounded.")),
  mode: optional(choice(["Hold", "Rollback"], "An enum.")),
  labels: optional(textMap("Strings by key.")),
  parts: optional(
    list(object("A part.", { name: text("Required."), size: optional(int32("Optional.")) }), "Parts.", { minItems: 1 }),
  ),
});
const reader = compileReader(schema);

function read(value: unknown): { readonly value: unknown; readonly violations: readonly Violation[] } {
  const violations: Violation[] = [];
  const outcome = reader(value, { parent: undefined, key: "spec" }, (violation) => void violations.push(violation));
  return { value: outcome.kind === "read" ? outcome.value : undefined, violations };
}

/** Paths of the violations of a value with a valid name. */
function refused(members: Readonly<Record<string, unknown>>): readonly string[] {
  return read({ name: "a", ...members }).violations.map(({ path }) => path);
}

describe("a value that fits", () => {
  test.each<[string, unknown]>([
    ["every", "90s"],
    ["every", "1h30m"],
    ["every", "1.5h"],
    ["every", ".5m"],
    ["every", "1.s"],
    ["every", "+90s"],
    ["every", "-1m"],
    ["every", "0"],
    ["every", "3µs"],
    ["at", "2026-01-31T08:00:00Z"],
    ["at", "2026-01-31T08:00:00.123+01:00"],
    ["on", false],
    ["retries", 0],
    ["retries", 100],
    ["count", 2 ** 53 - 1],
    ["mode", "Rollback"],
    ["note", "any"],
    ["labels", { "app.kubernetes.io/name": "" }],
    ["parts", [{ name: "" }, { name: "b", size: -1 }]],
  ])("%s: %j", (key, member) => {
    expect(read({ name: "a", [key]: member })).toEqual({ value: { name: "a", [key]: member }, violations: [] });
  });

  test("null and empty optional strings and lists are absent, required ones are kept", () => {
    const value = { name: "a", note: "", every: null, labels: null, on: null, parts: null, retries: null };
    expect(read(value)).toEqual({ value: { name: "a" }, violations: [] });
    const items = compileReader(
      object("Lists.", { must: list(text("Item."), "Must."), may: optional(list(text("Item."), "May.")) }),
    );
    expect(items({ must: [], may: [] }, undefined, () => undefined)).toEqual({ kind: "read", value: { must: [] } });
  });

  test("members the schema does not know are left out, at any depth", () => {
    const hostile: unknown = JSON.parse(
      '{"name":"a","x":1,"__proto__":{"note":"p"},"parts":[{"name":"b","constructor":2}]}',
    );
    expect(read(hostile)).toEqual({ value: { name: "a", parts: [{ name: "b" }] }, violations: [] });
  });

  test("a map keeps every key, also one that names a property of all objects", () => {
    const hostile: unknown = JSON.parse('{"name":"a","labels":{"__proto__":"p","constructor":"c","gone":null}}');
    const { labels } = read(hostile).value as { labels: Readonly<Record<string, string>> }; // Asserted right below.
    expect(Object.entries(labels)).toEqual([
      ["__proto__", "p"],
      ["constructor", "c"],
    ]);
  });

  test("the value is a copy", () => {
    const value = { name: "a", parts: [{ name: "b" }] };
    const copy = read(value).value;
    value.parts.pop();
    expect(copy).toEqual({ name: "a", parts: [{ name: "b" }] });
  });
});

describe("a value that does not fit", () => {
  test.each<[string, unknown]>([
    ["every", "5 minutes"],
    ["every", "10"],
    ["every", ""],
    ["every", "1d"],
    ["every", "300y"],
    ["every", "9223372037s"],
    ["every", 90],
    ["at", "yesterday"],
    ["at", "2026-02-31T99:00:00Z"],
    ["at", "2026-01-31"],
    ["on", "true"],
    ["on", 0],
    ["retries", -1],
    ["retries", 101],
    ["retries", 1.5],
    ["retries", "1"],
    ["count", 2 ** 64],
    ["mode", "hold"],
    ["mode", "Never"],
    ["mode", ""],
    ["note", 1],
    ["note", {}],
    ["labels", []],
    ["labels", "a=b"],
    ["parts", {}],
    ["parts", []],
  ])("%s: %j", (key, member) => {
    expect(refused({ [key]: member })).toEqual([`spec.${key}`]);
    expect(read({ name: "a", [key]: member }).value).toEqual({ name: "a" });
  });

  test.each<[unknown, string]>([
    [undefined, "spec"],
    [null, "spec"],
    ["text", "spec"],
    [[], "spec"],
    [{}, "spec.name"],
    [{ name: null }, "spec.name"],
    [{ name: "" }, "spec.name"],
    [{ name: "A" }, "spec.name"],
    [{ name: "-a" }, "spec.name"],
    [{ name: "a".repeat(64) }, "spec.name"],
  ])("%j leaves nothing", (value, path) => {
    const outcome = read(value);
    expect(outcome.value).toBeUndefined();
    expect(outcome.violations.map((violation) => violation.path)).toEqual([path]);
  });

  test("every violation is reported, and the rest is read", () => {
    const parts = [{ name: "b", size: "1" }, { size: 1 }, 7, { name: "c", size: 2 }];
    const { value, violations } = read({ name: "a", parts, labels: { "a/b": 1, plain: 2, kept: "3" }, mode: "x" });
    expect(violations.map(({ path }) => path)).toEqual([
      "spec.mode",
      'spec.labels["a/b"]',
      "spec.labels.plain",
      "spec.parts[0].size",
      "spec.parts[1].name",
      "spec.parts[2]",
    ]);
    expect(value).toEqual({ name: "a", labels: { kept: "3" }, parts: [{ name: "b" }, { name: "c", size: 2 }] });
  });

  test("the message names the value and what is accepted", () => {
    expect(read({ name: "a", mode: "hold" }).violations).toEqual([
      { path: "spec.mode", message: 'is "hold", want "Hold" or "Rollback"' },
    ]);
  });
});

describe("hostile values", () => {
  test.each<[string, unknown]>([
    ["every", "1".repeat(1_000_000)],
    ["every", "9h".repeat(500_000)],
    ["name", "a".repeat(1_000_000)],
    ["name", `${"a-".repeat(500_000)}!`],
    ["at", "2".repeat(1_000_000)],
    ["mode", "\u0000".repeat(1_000_000)],
    ["retries", 1e308],
    ["retries", NaN],
    ["labels", { ["k".repeat(100_000)]: 1 }],
  ])("%s is refused in bounded time with a bounded message", (key, member) => {
    const started = performance.now();
    const [violation, ...others] = read({ name: "a", [key]: member }).violations;
    expect(performance.now() - started).toBeLessThan(1000);
    expect(others).toEqual([]);
    expect(violation?.message.length).toBeLessThan(1000);
    expect(violation?.path.length).toBeLessThan(1000);
  });

  test("a violation for each of many items is reported in bounded time", () => {
    const started = performance.now();
    expect(refused({ parts: Array.from({ length: 200_000 }, () => ({})) })).toHaveLength(200_000);
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test("any JSON is read or refused, never thrown at", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => {
        const { violations } = read(value);
        for (const { path } of violations) expect(path).toMatch(/^spec/);
      }),
    );
  });

  test("what was read is read again unchanged", () => {
    const part = fc.record({ name: fc.string(), size: fc.oneof(fc.integer(), fc.string()) }, { requiredKeys: [] });
    const member = {
      name: fc.constantFrom("a", "b-1", "x9"),
      note: fc.oneof(fc.string(), fc.constant(null)),
      every: fc.oneof(fc.stringMatching(new RegExp(durationPattern, "u")), fc.string()),
      labels: fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.integer())),
      parts: fc.array(part),
      mode: fc.constantFrom("Hold", "hold"),
    };
    fc.assert(
      fc.property(fc.record(member, { requiredKeys: ["name"] }), (value) => {
        const once = read(value).value;
        const again = read(once);
        expect(again.value).toEqual(once);
        expect(again.violations.map(({ path }) => path).filter((path) => path !== "spec.parts")).toEqual([]);
      }),
    );
  });
});
