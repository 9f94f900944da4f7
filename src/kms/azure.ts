import type { CloudKey } from "../build/sops/sops-metadata.ts";
import { malformed, SopsProblem } from "../build/sops/sops-problem.ts";
import { answeredText, askService, type KmsTransport } from "./kms-request.ts";

/** Where vaults are: a token for them goes nowhere else, whatever a file says. */
const vaultDomains = ["vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net", "managedhsm.azure.net"];

export interface AzureContext {
  readonly transport: KmsTransport;
  readonly signal: AbortSignal;
}

/** Who asks: with a secret, or with a token of a ServiceAccount. */
export interface AzureClient {
  readonly tenantId: string;
  readonly clientId: string;
  readonly secret: { readonly kind: "secret" | "assertion"; readonly text: string };
}

/** Opens with Azure Key Vault. @throws {SopsProblem} */
export async function openWithAzure(
  { transport, signal }: AzureContext,
  key: Extract<CloudKey, { kind: "azure" }>,
  client: () => Promise<AzureClient>,
): Promise<Uint8Array> {
  const vault = URL.parse(key.vaultUrl);
  const domain = vaultDomains.find((each) => vault?.hostname.endsWith(`.${each}`) === true);
  if (vault?.protocol !== "https:" || vault.port !== "" || domain === undefined)
    throw malformed("vault_url is no Azure Key Vault");
  if (!/^[\w-]{1,127}$/.test(key.name) || !/^\w{0,64}$/.test(key.version)) throw malformed("an Azure key has no name");
  const token = await accessToken({ transport, signal }, await client(), domain);
  const service = "Azure Key Vault";
  const text = await askService(
    transport,
    {
      service,
      url: `${vault.origin}/keys/${key.name}/${key.version}/decrypt?api-version=7.4`.replace("//decrypt", "/decrypt"),
      headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
      body: JSON.stringify({ alg: "RSA-OAEP-256", value: key.encrypted }),
    },
    signal,
  );
  return Buffer.from(answeredText(service, text, "value"), "base64url");
}

async function accessToken({ transport, signal }: AzureContext, client: AzureClient, domain: string): Promise<string> {
  if (!/^[\w.-]{1,100}$/.test(client.tenantId)) throw new SopsProblem("no usable key", "the Azure tenant id is none");
  const authority =
    domain === "vault.azure.cn"
      ? "login.chinacloudapi.cn"
      : domain === "vault.usgovcloudapi.net"
        ? "login.microsoftonline.us"
        : "login.microsoftonline.com";
  const proof: Readonly<Record<string, string>> =
    client.secret.kind === "secret"
      ? { client_secret: client.secret.text }
      : {
          client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
          client_assertion: client.secret.text,
        };
  const service = "Microsoft Entra";
  const text = await askService(
    transport,
    {
      service,
      url: `https://${authority}/${client.tenantId}/oauth2/v2.0/token`,
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({
        grant_type: "client_credentials",
        client_id: client.clientId,
        scope: `https://${domain}/.default`,
        ...proof,
      }).toString(),
    },
    signal,
  );
  return answeredText(service, text, "access_token");
}
