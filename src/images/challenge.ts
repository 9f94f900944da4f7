import { isIP } from "node:net";
import { getDomain } from "tldts";

/** What a registry asks for with a 401 (RFC 9110 §11.6.1, distribution's token authentication). */
export type Challenge =
  | { readonly scheme: "basic" }
  | {
      readonly scheme: "bearer";
      readonly realm: URL;
      readonly service: string | undefined;
      readonly scope: string | undefined;
    };

const longest = 4_096;

/** The first challenge that can be answered; undefined when there is none. */
export function parseChallenge(header: string | undefined): Challenge | undefined {
  if (header === undefined || header.length > longest) return undefined;
  const bearer = /(?:^|,)\s*bearer\s+(.*)$/is.exec(header)?.[1];
  if (bearer === undefined) return /(?:^|,)\s*basic(?:\s|$)/i.test(header) ? { scheme: "basic" } : undefined;
  const parameters = new Map<string, string>();
  for (const [, name = "", quoted, bare] of bearer.matchAll(/([a-z_]+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))/gi))
    if (!parameters.has(name.toLowerCase())) parameters.set(name.toLowerCase(), quoted ?? bare ?? "");
  const realm = URL.parse(parameters.get("realm") ?? "");
  if (realm === null) return undefined;
  return { scheme: "bearer", realm, service: parameters.get("service"), scope: parameters.get("scope") };
}

/**
 * Whether a registry's token realm may be told the credentials for it: only over TLS, and only on the registry's own
 * registrable domain, or where the operator says that the registry is spoken to in the clear and it is its own realm
 * (spec 50 §4.5).
 */
export function mayReceiveCredentials(realm: URL, registry: URL): boolean {
  if (realm.origin === registry.origin) return true;
  if (realm.protocol !== "https:") return false;
  if (realm.hostname === registry.hostname) return true;
  const own = domainOf(registry.hostname);
  return own !== undefined && own === domainOf(realm.hostname);
}

/** Below domains under which anybody may have one, those of clouds included; undefined for addresses and bare names. */
function domainOf(host: string): string | undefined {
  if (isIP(host.replace(/^\[|\]$/g, "")) !== 0) return undefined;
  return getDomain(host, { allowPrivateDomains: true }) ?? undefined;
}
