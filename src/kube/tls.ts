import type { LookupFunction } from "node:net";
import { createSecureContext, type SecureContext, type SecureContextOptions } from "node:tls";
import type { ClientCertificate } from "./credential.ts";
import type { ClusterEndpoint } from "./endpoint.ts";

/** What a connection to a cluster trusts, and shows of itself. */
export type TlsOptions = TlsTrust & {
  readonly servername?: string;
  readonly rejectUnauthorized: boolean;
  readonly lookup?: LookupFunction;
};

type TlsTrust = { readonly secureContext: SecureContext } | Pick<SecureContextOptions, "ca" | "cert" | "key">;

/**
 * Parsed once for all connections: from the texts each of the thousand watches would parse them and keep 25 KB of its
 * own. Texts that cannot be parsed are left as they are, so that each connection fails and says so.
 */
function trust(endpoint: ClusterEndpoint, certificate: ClientCertificate | undefined): TlsTrust {
  const texts = {
    ...(endpoint.caPem === undefined ? {} : { ca: endpoint.caPem }),
    ...(certificate === undefined ? {} : { cert: certificate.certPem, key: certificate.keyPem }),
  };
  try {
    return { secureContext: createSecureContext(texts) };
  } catch {
    return texts;
  }
}

export function tlsOptions(endpoint: ClusterEndpoint, certificate: ClientCertificate | undefined): TlsOptions {
  return {
    ...trust(endpoint, certificate),
    ...(endpoint.tlsServerName === undefined ? {} : { servername: endpoint.tlsServerName }),
    ...(endpoint.lookup === undefined ? {} : { lookup: endpoint.lookup }),
    rejectUnauthorized: endpoint.insecureSkipTlsVerify !== true,
  };
}
