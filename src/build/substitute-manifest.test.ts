import { describe, expect, test } from "vitest";
import { parseManifest } from "./manifest.ts";
import { usableValues } from "./substitute.ts";
import { substituteManifest } from "./substitute-manifest.ts";
import { substitutionDigest } from "./substitution-digest.ts";
import { parseYaml } from "./yaml-parse.ts";
import { valueAt, type YamlValue } from "./yaml-value.ts";

/** The value of `data.x`, given as YAML, after substitution of V. */
function substituted(yaml: string, value: string): YamlValue | undefined {
  const text = `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  x: ${yaml}\n  y: after\n`;
  const [document = null] = parseYaml(text, "kustomize");
  const result = substituteManifest(parseManifest(document, '"c.yaml"'), usableValues(new Map([["V", value]])));
  expect(valueAt(result.value, "data", "y")).toBe("after");
  return valueAt(result.value, "data", "x");
}

describe("the object's YAML", () => {
  test.each<readonly [string, string, YamlValue]>([
    ['"${V}"', "3", 3],
    ["${V}", "3", 3],
    ["${V}", "true", true],
    ["${V}", "yes", true],
    ["${V}", "off", false],
    ["${V}", "null", null],
    ["${V}", "", null],
    ["${V}", "1.5", 1.5],
    ["${V}", "0777", 511],
    ["${V}", "text", "text"],
    ["${V}", "2001-01-01", "2001-01-01"],
    ['"v${V}"', "3", "v3"],
    ["v${V}", "3", "v3"],
    ["'a: ${V}'", "3", "a: 3"],
    ["${V}", '"3"', "3"],
    ["${V}", "'true'", "true"],
    ["${V}", "{a: 1}", { a: 1 }],
    ["${V}", "[1, b]", [1, "b"]],
    ["pre ${V}", "a'b\"c", "pre a'b\"c"],
    ["pre ${V}", "a#b", "pre a#b"],
    ["${V}", "line\nfeed", "linefeed"],
    ["|\n    first ${V}\n    second", 'x: #"1', 'first x: #"1\nsecond\n'],
    ["|\n    ${V}\n    second", "  indented", "  indented\nsecond\n"],
    ['"${V}\\nsecond"', "first", "first\nsecond"],
    ["'true'", "unused", "true"],
    ["'3'", "unused", "3"],
    ["$${V}", "unused", "${V}"],
    ["{k: ['${V}', {z: '${V}'}]}", "7", { k: [7, { z: 7 }] }],
    ["{'${V}': a}", "key", { key: "a" }],
  ])("[20.19] data %s with %j", (yaml, value, result) => {
    expect(substituted(yaml, value)).toEqual(result);
  });

  test.each([
    ["${V}", "a: b"],
    ["${V}", "{a"],
    ["'a: ${V}'", "it's"],
    ["${V}", "*alias"],
    ["{'${V}': a, b: c}", "b"],
  ])("[20.19] data %s with %j is an error that tells no value", (yaml, value) => {
    expect(() => substituted(yaml, value)).toThrow(expect.objectContaining({ reason: "Substitution" }));
    expect(() => substituted(yaml, value)).toThrow(/ConfigMap "c" in "c.yaml"/);
    if (value.length > 3) expect(() => substituted(yaml, value)).not.toThrow(value);
  });

  const object = (text: string): ReturnType<typeof parseManifest> => {
    const [document = null] = parseYaml(text, "kustomize");
    return parseManifest(document, '"c.yaml"');
  };
  test.each([
    ["name", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '${V}'}\n"],
    ["kind", "apiVersion: v1\nkind: ${V}\nmetadata: {name: c}\n"],
    ["apiVersion", "apiVersion: ${V}\nkind: ConfigMap\nmetadata: {name: c}\n"],
  ])("[20.19] must keep its %s", (_field, text) => {
    const failed = (): unknown => substituteManifest(object(text), new Map([["V", ""]]));
    expect(failed).toThrow(expect.objectContaining({ reason: "Substitution" }));
  });

  test("[20.19] of a Secret is not quoted in an error", () => {
    const secret = object("apiVersion: v1\nkind: Secret\nmetadata: {name: c}\nstringData: {x: '${a-hunter2}'}\n");
    const failed = (): unknown => substituteManifest(secret, new Map());
    expect(failed).toThrow(/\$\{a/);
    expect(failed).not.toThrow("hunter2");
  });

  test.each([
    "annotations: {stages.metio.wtf/substitute: disabled}",
    "labels: {kustomize.toolkit.fluxcd.io/substitute: Disabled}",
  ])("[20.19] is left alone with %s", (metadata) => {
    const left = object(`apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, ${metadata}}\ndata: {x: "\${nope}"}\n`);
    expect(substituteManifest(left, new Map())).toBe(left);
  });
});

describe("the digest of variables", () => {
  const variables = (entries: readonly (readonly [string, string])[], secret = false) => ({
    values: new Map(entries),
    secret,
  });

  test("is empty without variables, and does not depend on their order", async () => {
    expect(await substitutionDigest(variables([]), "salt")).toBe("");
    const digest = await substitutionDigest(
      variables([
        ["b", "2"],
        ["a", "ä\n"],
      ]),
      "salt",
    );
    // sha256 of "1:a=3:ä\n\n1:b=1:2\n"
    expect(digest).toBe("69f1e0a29b11da89934260a30821a2bbfadd7e98839cdb51c7a8c9d9df7f1d2c");
    expect(
      await substitutionDigest(
        variables([
          ["a", "ä\n"],
          ["b", "2"],
        ]),
        "other",
      ),
    ).toBe(digest);
  });

  test("is salted and slow for values of Secrets", async () => {
    const digest = await substitutionDigest(variables([["a", "1"]], true), "salt");
    expect(digest).toMatch(/^s1:[0-9a-f]{64}$/);
    expect(await substitutionDigest(variables([["a", "1"]], true), "salt")).toBe(digest);
    expect(await substitutionDigest(variables([["a", "1"]], true), "other")).not.toBe(digest);
  });
});
