import type { CloudKey } from "../build/sops/sops-metadata.ts";
import { malformed, SopsProblem } from "../build/sops/sops-problem.ts";
import { answeredText, askService, type KmsTransport } from "./kms-request.ts";

type VaultKey = Extract<CloudKey, { kind: "vault" }>;

/** The operator's own token and where it may go. */
export interface VaultEnvironment {
  readonly token: string | undefined;
  /** `VAULT_ADDR`. */
  readonly address: string | undefined;
  /** `SOPS_HC_VAULT_ALLOWLIST`: prefixes of URLs, `all` or `none`. */
  readonly allowed: string | undefined;
}

/** Opens with the transit engine of Vault or OpenBao. @throws {SopsProblem} */
export async function openWithVault(
  transport: KmsTransport,
  key: VaultKey,
  o: { readonly token: string; readonly signal: AbortSignal },
): Promise<Uint8Array> {
  if (!/^[\x21-\x7e]+$/.test(o.token)) throw new SopsProblem("no usable key", "the Vault token has other characters");
  const base = URL.parse(key.address);
  if (base === null) throw malformed("vault_address is no URL");
  const segments = [...key.enginePath.split("/"), "decrypt", key.keyName].filter((segment) => segment !== "");
  if (segments.some((segment) => segment === "." || segment === "..")) throw malformed("engine_path leads elsewhere");
  const path = segments.map((segment) => encodeURIComponent(segment)).join("/");
  const service = "Vault";
  const text = await askService(
    transport,
    {
      service,
      url: `${base.origin}${base.pathname.replace(/\/+$/, "")}/v1/${path}`,
      headers: { "x-vault-token": o.token, "x-vault-request": "true", "content-type": "application/json" },
      body: JSON.stringify({ ciphertext: key.encrypted }),
    },
    o.signal,
  );
  return Buffer.from(answeredText(service, text, "data", "plaintext"), "base64");
}

/**
 * The operator's token for an address that a file names; undefined: it does not go there. The address must lie below an
 * allowed one: same scheme, host and port, and the path below its path (spec 50 §3.2).
 */
export function ambientVaultToken(
  address: string,
  { token, address: own, allowed }: VaultEnvironment,
): string | undefined {
  if (token === undefined || token === "") return undefined;
  const list = (allowed === undefined || allowed === "" ? (own ?? "") : allowed).split(",").map((each) => each.trim());
  if (list.includes("none")) return undefined;
  if (list.includes("all") && allowed !== undefined) return token;
  return list.some((prefix) => prefix !== "" && isBelow(address, prefix)) ? token : undefined;
}

function isBelow(address: string, prefix: string): boolean {
  const [asked, base] = [URL.parse(address), URL.parse(prefix)];
  if (asked === null || base === null || asked.origin !== base.origin) return false;
  const path = base.pathname.replace(/\/+$/, "");
  return asked.pathname === path || asked.pathname.startsWith(`${path}/`);
}
