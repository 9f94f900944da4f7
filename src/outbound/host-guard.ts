import { isIP, type LookupFunction } from "node:net";
import type { DenyOptions } from "../lib/address.ts";
import type { Clock } from "../lib/clock.ts";
import { checkedAddresses, checkedHost, ownAddress, type Resolve, systemResolve } from "./checked-host.ts";

/**
 * The rules of spec 50 §5 for connections that others make: what a URL leads to is checked before, and every name again
 * when it is resolved for a connection, which then goes to one of the addresses that were checked.
 */
export interface HostGuard {
  /**
   * Resolves the host unless it is an address, and checks where it leads. Not resolved: an address alone is judged.
   *
   * @param what names the URL in messages
   * @throws {OutboundError} `Refused`; `Unreachable` or `TimedOut` when the name cannot be resolved
   * @throws the signal's reason, when aborted
   */
  check(url: URL, o: { readonly what: string; readonly signal: AbortSignal }): Promise<void>;
  /** For sockets: gives nothing but checked addresses. Never asked about a host that is an address already. */
  readonly lookup: LookupFunction;
}

export function createHostGuard(options: {
  /** `--dev-allow-loopback`. */
  readonly allowLoopback: boolean;
  readonly clock: Clock;
  readonly ownAddresses?: readonly string[];
  /** Default: the machine's resolver. */
  readonly resolve?: Resolve;
}): HostGuard {
  const { clock, resolve = systemResolve } = options;
  const deny: DenyOptions = {
    allowLoopback: options.allowLoopback,
    own: (options.ownAddresses ?? []).map((text) => ownAddress(text)),
  };
  const addressesOf = (url: URL, what: string, signal: AbortSignal): Promise<readonly string[]> =>
    checkedAddresses(checkedHost(url, { deny, what }), { deny, what, resolve, clock, signal });
  return {
    async check(url, { what, signal }) {
      await addressesOf(url, what, signal);
    },
    lookup(name, { all }, callback) {
      const url = new URL("https://host");
      url.hostname = name;
      addressesOf(url, "the host", new AbortController().signal).then(
        (found) => {
          const addresses = found.map((address) => ({ address, family: isIP(address) }));
          const [first] = addresses;
          if (first === undefined) callback(new Error("no address"), "");
          else if (all === true) callback(null, addresses);
          else callback(null, first.address, first.family);
        },
        (error: unknown) => callback(error instanceof Error ? error : new Error(String(error)), ""),
      );
    },
  };
}
