import { describe, expect, test } from "vitest";
import { ignoreFieldsKey, readLeftFields, withoutLeftFields } from "./left-fields.ts";
import type { YamlMapping } from "./yaml-value.ts";

const manifest = (written: string, rest: YamlMapping = {}): YamlMapping => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "web", annotations: { [ignoreFieldsKey]: written, "a/b": "c" } },
  ...rest,
});

describe("fields left to others", () => {
  test.each<[string, string, YamlMapping, YamlMapping]>([
    ["a member", "/spec/replicas", { spec: { replicas: 2, paused: true } }, { spec: { paused: true } }],
    ["two members", "/spec/replicas\n  /spec/paused", { spec: { replicas: 2, paused: true } }, { spec: {} }],
    ["a whole subtree", "/spec", { spec: { replicas: 2 }, data: {} }, { data: {} }],
    [
      "a member of a list item",
      "/webhooks/1/clientConfig/caBundle",
      { webhooks: [{ clientConfig: { caBundle: "a" } }, { clientConfig: { caBundle: "b", url: "u" } }] },
      { webhooks: [{ clientConfig: { caBundle: "a" } }, { clientConfig: { url: "u" } }] },
    ],
    ["escaped names", "/data/a~1b~0c", { data: { "a/b~c": "1", x: "2" } }, { data: { x: "2" } }],
    ["nothing that is not there", "/spec/none/deep /spec/list/7/x", { spec: { list: [] } }, { spec: { list: [] } }],
    ["no list item itself", "/spec/list/0", { spec: { list: [1, 2] } }, { spec: { list: [1, 2] } }],
    ["no prototype", "/__proto__/x", { spec: {} }, { spec: {} }],
  ])("leaves out %s", (_what, written, before, after) => {
    expect(withoutLeftFields(manifest(written, before))).toEqual(manifest(written, after));
  });

  test.each([
    "spec/replicas",
    "/kind",
    "/metadata",
    "/metadata/name",
    "/metadata/labels",
    "/metadata/labels/stages.metio.wtf~1name",
    "/metadata/annotations",
    "/metadata/annotations/stages.metio.wtf~1ignore-fields",
    "/apiVersion/x",
    "/spec/~2",
  ])("%j cannot be used, and the others still are", (pointer) => {
    expect(readLeftFields(manifest(`/spec/replicas ${pointer}`))).toEqual({
      pointers: ["/spec/replicas"],
      unusable: [pointer],
    });
  });

  test("an annotation of others may be left to them", () => {
    expect(readLeftFields(manifest("/metadata/annotations/a~1b")).unusable).toEqual([]);
  });
});
