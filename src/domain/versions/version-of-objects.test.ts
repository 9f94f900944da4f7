import { describe, expect, test } from "vitest";
import { versionOfObjects } from "./version-of-objects.ts";

const object = (id: string, content: object, { kind = "Deployment", apiVersion = "apps/v1" } = {}) => ({
  id,
  kind,
  name: "web",
  body: new TextEncoder().encode(JSON.stringify({ apiVersion, kind, ...content })),
});
const labelled = (version: unknown) => ({ metadata: { labels: { "app.kubernetes.io/version": version } } });
const wanted = { kind: "Deployment", name: "web" };

describe("versionOfObjects", () => {
  test.each<[string, Parameters<typeof versionOfObjects>, string]>([
    ["the label", [[object("a", labelled("1.2.0"))], wanted], "1.2.0"],
    ["the label, trimmed", [[object("a", labelled(" v1.2\n"))], wanted], "v1.2"],
    ["a path", [[object("a", { spec: { v: "1.3" } })], { ...wanted, fieldPath: "{.spec.v}" }], "1.3"],
    ["a path without braces", [[object("a", { spec: { v: "1.3" } })], { ...wanted, fieldPath: ".spec.v" }], "1.3"],
    ["several that tell the same", [[object("a", labelled("1")), object("b", labelled("1"))], wanted], "1"],
    [
      "only of the API version",
      [
        [object("a", labelled("1")), object("b", labelled("2"), { apiVersion: "x/v1" })],
        { ...wanted, apiVersion: "x/v1" },
      ],
      "2",
    ],
  ])("%s", (_title, [objects, of], text) => {
    expect(versionOfObjects(objects, of)).toEqual({ kind: "text", text });
  });

  test.each<[string, Parameters<typeof versionOfObjects>, RegExp]>([
    ["nothing", [[], wanted], /^matches nothing: the stage renders no Deployment "web"$/],
    [
      "another API version",
      [[object("a", labelled("1"))], { ...wanted, apiVersion: "x/v1" }],
      /no x\/v1 Deployment "web"$/,
    ],
    ["no label", [[object("a", {})], wanted], /^finds no version in a: it has no label app\.kubernetes\.io\/version$/],
    ["a label that is no text", [[object("a", labelled(1))], wanted], /has no label/],
    [
      "a missing key",
      [[object("a", {})], { ...wanted, fieldPath: ".spec.v" }],
      /^finds no version in a: "\.spec\.v": /,
    ],
    ["several results", [[object("a", { v: [1, 2] })], { ...wanted, fieldPath: ".v[*]" }], /^finds no version in a: /],
    ["no path", [[object("a", {})], { ...wanted, fieldPath: "{.v" }], /is no JSONPath/],
    [
      "different values",
      [[object("a", labelled("1")), object("b", labelled("2"))], wanted],
      /^matches objects with different versions: a has "1", b has "2"$/,
    ],
  ])("refused: %s", (_title, [objects, of], problem) => {
    expect(versionOfObjects(objects, of)).toEqual({
      kind: "unreadable",
      problem: expect.stringMatching(problem) as unknown,
    });
  });

  test("no value of a Secret is told", () => {
    const secrets = ["hunter1", "hunter2"].map((v) =>
      object(v === "hunter1" ? "a" : "b", { data: { v } }, { kind: "Secret" }),
    );
    const reading = versionOfObjects(secrets, { kind: "Secret", name: "web", fieldPath: ".data.v" });
    expect(reading).toEqual({ kind: "unreadable", problem: "matches objects with different versions: a, b" });
    const many = Array.from({ length: 9 }, (_, index) => object(String(index), labelled(String(index))));
    expect(JSON.stringify(versionOfObjects(many, wanted))).toContain("and 4 more");
  });
});
