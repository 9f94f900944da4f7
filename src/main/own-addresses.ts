import { isIP } from "node:net";
import type { NetworkInterfaceInfo } from "node:os";

/**
 * Addresses of this pod, which no tenant may have it ask (spec 50 §5): all of its interfaces but loopback, which has a rule
 * of its own. Outside of a pod there are none: those of a developer's machine are other things' as well.
 */
export function ownAddresses(
  env: Readonly<Record<string, string | undefined>>,
  interfaces: Readonly<Record<string, readonly Pick<NetworkInterfaceInfo, "address" | "internal">[] | undefined>>,
): readonly string[] {
  if ((env["KUBERNETES_SERVICE_HOST"] ?? "") === "") return [];
  const all = Object.values(interfaces).flatMap((addresses) => addresses ?? []);
  return all.flatMap(({ address, internal }) => (internal || isIP(address) === 0 ? [] : [address]));
}
