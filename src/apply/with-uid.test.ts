import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { withUid } from "./with-uid.ts";

function spliced(text: string): unknown {
  return JSON.parse(new TextDecoder().decode(withUid(new TextEncoder().encode(text), "u-1")));
}

describe("a manifest bound to one object", () => {
  test("only the outermost metadata gets the uid", () => {
    const manifest = {
      a: { metadata: { name: "inner" } },
      data: { text: '"metadata":{"name":"quoted"}', end: "\\" },
      list: [{ metadata: { name: "listed" } }],
      metadata: { name: "outer" },
    };
    expect(spliced(JSON.stringify(manifest))).toEqual({ ...manifest, metadata: { uid: "u-1", name: "outer" } });
  });

  test("digits of big integers stay as they are", () => {
    const bytes = withUid(new TextEncoder().encode('{"metadata":{"name":"n"},"spec":{"n":12345678901234567890}}'), "u");
    expect(new TextDecoder().decode(bytes)).toBe(
      '{"metadata":{"uid":"u","name":"n"},"spec":{"n":12345678901234567890}}',
    );
  });

  test("any JSON around the metadata is kept", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (rest) => {
        const { metadata: _metadata, __proto__: _proto, ...others } = rest;
        const manifest = { ...others, metadata: { name: "n" } };
        const text = JSON.stringify(manifest);
        expect(spliced(text)).toEqual({ ...(JSON.parse(text) as object), metadata: { uid: "u-1", name: "n" } });
      }),
    );
  });
});
