import { SopsProblem } from "../../build/sops/sops-problem.ts";
import { IdentityError, isDenied } from "../../identity/identity-error.ts";
import type { Federation } from "../../kms/credentials.ts";
import { KubeError } from "../../kube/error.ts";
import { getRequest, tokenRequest } from "../../kube/request.ts";
import { asObject, asText, at } from "../../lib/json.ts";
import type { Engine } from "../engine.ts";
import { serviceAccounts } from "../resources.ts";

/** Life of a token for a cloud, which takes it for credentials of its own at once. */
const lifeSeconds = 3_600;

/** A ServiceAccount towards clouds: the controller reads its annotations and mints its tokens (spec 50 §2.2). */
export function federationOf(
  engine: Pick<Engine, "access">,
  account: { readonly namespace: string; readonly name: string },
): Federation {
  const { client } = engine.access.controller;
  const described = `ServiceAccount "${account.namespace}/${account.name}"`;
  return {
    async annotations(signal) {
      const found = await asked(described, () => client.send(getRequest(serviceAccounts, account), { signal }));
      const entries = Object.entries(asObject(at(found, "metadata", "annotations")) ?? {});
      return Object.fromEntries(entries.flatMap(([key, value]) => (typeof value === "string" ? [[key, value]] : [])));
    },
    async token(audience, signal) {
      const request = tokenRequest({ ...account, expirationSeconds: lifeSeconds, audiences: [audience] });
      const minted = await asked(described, () => client.send(request, { signal }));
      const token = asText(at(minted, "status", "token"));
      if (token === undefined) throw new SopsProblem("KMS unavailable", `no token was minted for ${described}`);
      return token;
    },
  };
}

async function asked<T>(described: string, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (!(error instanceof KubeError) && !(error instanceof IdentityError)) throw error;
    const problem = isDenied(error) ? "KMS denied" : "KMS unavailable";
    throw new SopsProblem(problem, `cannot use ${described}: ${error.message}`, { cause: error });
  }
}
