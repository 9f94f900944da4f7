import { isIP } from "node:net";

/**
 * Whether a `Host` header names this listener by what nobody outside can make lead here: an address, `localhost`, or a
 * Service of the cluster. Whoever owns another name can let it lead here, and have a browser read what is shown without
 * authentication (DNS rebinding).
 */
export function isLocalHost(header: string): boolean {
  const host = header.toLowerCase().replace(/:\d+$/, "").replace(/\.$/, "");
  if (host.startsWith("[") && host.endsWith("]")) return isIP(host.slice(1, -1)) === 6;
  return isIP(host) === 4 || host === "localhost" || /^[a-z0-9][-a-z0-9.]*\.svc(?:\.cluster\.local)?$/.test(host);
}
