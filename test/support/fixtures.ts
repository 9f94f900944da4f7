import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { asArray } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";

/** The objects of a file in `test/fixtures`, which holds one manifest or a List. */
export async function readFixture(path: string): Promise<readonly KubeObject[]> {
  const file = fileURLToPath(new URL(`../fixtures/${path}`, import.meta.url));
  const value = parse(await readFile(file, "utf8"), { schema: "yaml-1.1" }) as KubeObject; // Read back from a cluster.
  return value.kind === "List" ? (asArray(value["items"]) as readonly KubeObject[]) : [value];
}
