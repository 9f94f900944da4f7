import type { RequestOptions } from "node:https";
import { KubeConfig } from "@kubernetes/client-node/dist/config.js";
import { asText } from "../lib/json.ts";
import type { AuthHeaders, Credential } from "./credential.ts";
import { KubeConfigError, type KubeConfigSelection } from "./kubeconfig.ts";

/**
 * A user whose credential a program or an OIDC provider issues. The library runs it, and again when what it issued has
 * run out. A client certificate is taken as issued now, and kept until the process ends.
 */
export async function pluginCredential(selection: KubeConfigSelection): Promise<Credential> {
  const config = new KubeConfig();
  config.loadFromOptions({
    clusters: [{ name: "c", server: asText(selection.cluster["server"]) ?? "", skipTLSVerify: false }],
    users: [userOf(selection)],
    contexts: [{ name: "x", cluster: "c", user: "u" }],
    currentContext: "x",
  });
  const ask = async (): Promise<RequestOptions> => {
    const options: RequestOptions = {};
    try {
      await config.applyToHTTPSOptions(options);
    } catch (error) {
      throw new KubeConfigError("Incomplete", "Cannot get a credential from the plugin the kubeconfig names", error);
    }
    return options;
  };
  const first = await ask();
  const certPem = textOf(first.cert);
  const keyPem = textOf(first.key);
  return {
    ...(certPem === undefined || keyPem === undefined ? {} : { certificate: { certPem, keyPem } }),
    authorize: async () => headersOf(await ask()),
  };
}

function userOf(selection: KubeConfigSelection): Readonly<Record<string, unknown>> {
  const { user } = selection;
  return { name: "u", exec: user["exec"], authProvider: user["auth-provider"] };
}

function headersOf(options: RequestOptions): AuthHeaders {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(options.headers ?? {})) {
    if (typeof value === "string" && name.toLowerCase() === "authorization") headers["authorization"] = value;
  }
  return headers;
}

function textOf(pem: unknown): string | undefined {
  if (typeof pem === "string") return pem === "" ? undefined : pem;
  return Buffer.isBuffer(pem) ? pem.toString("utf8") : undefined;
}
