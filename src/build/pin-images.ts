import { hash } from "node:crypto";
import { imagesOf, withImages } from "../domain/images/pod-spec.ts";
import type { RenderedObject } from "../domain/rendered.ts";

/** What a reviver is told of a scalar, and how a number keeps its digits (ECMAScript 2026; Node 24 has both). */
interface ExactJson {
  parse(
    text: string,
    reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown,
  ): unknown;
  rawJSON(text: string): unknown;
}
// TypeScript's library does not know them yet.
const exact = JSON as unknown as ExactJson;

/** The object with its images replaced by what they are pinned to; numbers keep their digits. The same where nothing changes. */
export function pinImages(object: RenderedObject, pinned: ReadonlyMap<string, string>): RenderedObject {
  if (object.images?.some((image) => (pinned.get(image) ?? image) !== image) !== true) return object;
  const parsed = exact.parse(Buffer.from(object.body).toString("utf8"), (_key, value, { source }) =>
    typeof value === "number" && source !== undefined && String(value) !== source ? exact.rawJSON(source) : value,
  );
  const changed = withImages(parsed, object, pinned);
  const body = new TextEncoder().encode(JSON.stringify(changed));
  return { ...object, body, hash: hash("sha256", body), images: imagesOf(changed, object) };
}
