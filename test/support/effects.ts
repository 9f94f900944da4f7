import { asArray, asText, at } from "../../src/lib/json.ts";
import type { TestCluster } from "./cluster.ts";

const serviceAccount = { apiVersion: "v1", kind: "ServiceAccount" } as const;

/** An object in which actions leave a trace each time they run, in the order in which they do. */
export interface Effects {
  /** An action that leaves its name. */
  action(name: string, more?: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>>;
  /** What ran, each time it did. */
  seen(): Promise<readonly string[]>;
}

export async function createEffects(
  { admin }: TestCluster,
  { namespace, name }: { readonly namespace: string; readonly name: string },
): Promise<Effects> {
  const ref = { ...serviceAccount, metadata: { name, namespace } };
  await admin.create({ ...ref, imagePullSecrets: [{ name: "begin" }] });
  return {
    action: (action, more = {}) => ({
      name: action,
      patch: {
        target: { ...serviceAccount, name },
        type: "json6902",
        patch: JSON.stringify([{ op: "add", path: "/imagePullSecrets/-", value: { name: action } }]),
      },
      ...more,
    }),
    seen: async () =>
      asArray(at(await admin.get(ref), "imagePullSecrets"))
        .map((entry) => asText(at(entry, "name")) ?? "")
        .slice(1),
  };
}
