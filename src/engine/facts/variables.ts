import type { Stage } from "../../api/stage-set.ts";
import type { Variables } from "../../build/build-stage.ts";
import { substitutionDigest } from "../../build/substitution-digest.ts";
import { asObject } from "../../lib/json.ts";
import type { Access } from "../../identity/access.ts";
import { IdentityError, isDenied } from "../../identity/identity-error.ts";
import { KubeError } from "../../kube/error.ts";
import { getRequest } from "../../kube/request.ts";
import { secrets } from "../../kube/core-resources.ts";
import { configMaps } from "../resources.ts";

type PostBuild = NonNullable<Stage["postBuild"]>;
type Reference = NonNullable<PostBuild["substituteFrom"]>[number];

export type ReadVariables =
  | { readonly kind: "read"; readonly variables: Variables | undefined; readonly substitutionDigest: string }
  | { readonly kind: "missing" | "denied" | "unreadable"; readonly cause: string };

/**
 * The variables of one stage: `substituteFrom` in list order, later wins, inline wins over all (spec 20 §5.3). Values
 * never reach a message.
 */
export async function readVariables(
  postBuild: PostBuild,
  context: {
    readonly namespace: string;
    /** Of the digest of Secret-derived values: StageSet UID and stage name (spec 50 §11.5). */
    readonly salt: string;
    readonly access: () => Promise<Access>;
    readonly signal: AbortSignal;
  },
): Promise<ReadVariables> {
  const references = postBuild.substituteFrom ?? [];
  const inline = Object.entries(postBuild.substitute ?? {});
  if (references.length === 0 && inline.length === 0)
    return { kind: "read", variables: undefined, substitutionDigest: "" };
  const values = new Map<string, string>();
  let secret = false;
  for (const reference of references) {
    const read = await readReference(reference, context);
    if (read.kind === "failed") return read.failure;
    for (const [name, value] of read.values) values.set(name, value);
    secret ||= reference.kind === "Secret" && read.values.length > 0;
  }
  for (const [name, value] of inline) values.set(name, value);
  const variables: Variables = { values, secret };
  return { kind: "read", variables, substitutionDigest: await substitutionDigest(variables, context.salt) };
}

type ReadReference =
  | { readonly kind: "values"; readonly values: readonly (readonly [string, string])[] }
  | { readonly kind: "failed"; readonly failure: Exclude<ReadVariables, { kind: "read" }> };

async function readReference(
  reference: Reference,
  context: { readonly namespace: string; readonly access: () => Promise<Access>; readonly signal: AbortSignal },
): Promise<ReadReference> {
  const resource = reference.kind === "Secret" ? secrets : configMaps;
  const described = `${reference.kind} "${context.namespace}/${reference.name}"`;
  try {
    const { client } = await context.access();
    const request = getRequest(resource, { namespace: context.namespace, name: reference.name });
    const data = asObject(asObject(await client.send(request, { signal: context.signal }))?.["data"]) ?? {};
    const decode = (text: string): string =>
      reference.kind === "Secret" ? Buffer.from(text, "base64").toString("utf8") : text;
    const values = Object.entries(data).flatMap(([name, value]) =>
      typeof value === "string" ? [[name, decode(value)] as const] : [],
    );
    return { kind: "values", values };
  } catch (error) {
    if (!(error instanceof KubeError) && !(error instanceof IdentityError)) throw error;
    if (error instanceof KubeError && error.reason === "NotFound") {
      if (reference.optional === true) return { kind: "values", values: [] };
      return { kind: "failed", failure: { kind: "missing", cause: `${described} does not exist` } };
    }
    const kind = isDenied(error) ? "denied" : "unreadable";
    return { kind: "failed", failure: { kind, cause: `Cannot read ${described}: ${error.message}` } };
  }
}
