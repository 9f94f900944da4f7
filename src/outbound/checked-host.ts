import { lookup } from "node:dns/promises";
import { deadline, DeadlineExceeded } from "../lib/abort.ts";
import { abortReason } from "../lib/abort-reason.ts";
import { abortable } from "../lib/abortable.ts";
import {
  deniedClass,
  hostOf,
  parseAddress,
  renderAddress,
  type AddressClass,
  type DenyOptions,
  type IpAddress,
} from "../lib/address.ts";
import type { Clock } from "../lib/clock.ts";
import { OutboundError } from "./outbound-error.ts";

const resolveTimeoutMs = 10_000;

/** All addresses of a name. Asked once for a request or redirect; throws when there are none. */
export type Resolve = (name: string) => Promise<readonly string[]>;

export function ownAddress(text: string): IpAddress {
  const address = parseAddress(text);
  if (address === undefined) throw new RangeError(`own address "${text}" is not an IP address`);
  return address;
}

/** The machine's resolver. */
export async function systemResolve(name: string): Promise<readonly string[]> {
  return (await lookup(name, { all: true, order: "verbatim" })).map(({ address }) => address);
}

/** The class of an address tells whoever wrote the URL what is wrong with it, without telling what a name resolves to. */
function deniedAddress(addressClass: AddressClass, what: string): OutboundError {
  return new OutboundError("Refused", `${what} leads to an address that is never connected to (${addressClass})`);
}

/** A host that may be connected to, as far as its name tells. */
export interface CheckedHost {
  readonly name: string;
  /** Known without a lookup. */
  readonly addresses: readonly string[] | undefined;
}

/** @throws {OutboundError} `Refused` */
export function checkedHost(
  url: URL,
  { deny, what }: { readonly deny: DenyOptions; readonly what: string },
): CheckedHost {
  const host = hostOf(url.hostname);
  switch (host.kind) {
    case "refused":
      throw new OutboundError("Refused", `${what} leads to a host that is not allowed`);
    case "loopback":
      if (!deny.allowLoopback) throw deniedAddress("loopback", what);
      return { name: host.name, addresses: ["127.0.0.1", "::1"] };
    case "address": {
      const denied = deniedClass(host.address, deny);
      if (denied !== undefined) throw deniedAddress(denied, what);
      const text = renderAddress(host.address);
      return { name: text, addresses: [text] };
    }
    case "name":
      return { name: host.name, addresses: undefined };
  }
}

/** How and for what a name is resolved. */
export interface Resolution {
  readonly deny: DenyOptions;
  readonly what: string;
  readonly resolve: Resolve;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** One denied address refuses the name: which of them is used is not ours to say later. */
export async function checkedAddresses(host: CheckedHost, o: Resolution): Promise<readonly string[]> {
  if (host.addresses !== undefined) return host.addresses;
  using limit = deadline(o.clock, { timeoutMs: resolveTimeoutMs, what: "resolving", parent: o.signal });
  let found: readonly string[];
  try {
    found = await abortable(o.resolve(host.name), limit.signal);
  } catch (error) {
    throw translated(error, { signal: o.signal, doing: `resolve the host of ${o.what}` });
  }
  if (found.length === 0) throw new OutboundError("Unreachable", `the host of ${o.what} has no address`);
  for (const text of found) {
    const address = parseAddress(text);
    if (address === undefined)
      throw new OutboundError("Refused", `the host of ${o.what} resolves to something that is not an address`);
    const denied = deniedClass(address, o.deny);
    if (denied !== undefined) throw deniedAddress(denied, o.what);
  }
  return found;
}

/** Any failure as the {@link OutboundError} it is to whoever chose the URL; the signal's reason, when aborted. */
export function translated(error: unknown, o: { readonly signal: AbortSignal; readonly doing: string }): Error {
  if (o.signal.aborted) return abortReason(o.signal);
  if (error instanceof OutboundError) return error;
  if (error instanceof DeadlineExceeded) return new OutboundError("TimedOut", error.message, { cause: error });
  const code = error instanceof Error && "code" in error && typeof error.code === "string" ? ` (${error.code})` : "";
  return new OutboundError("Unreachable", `cannot ${o.doing}${code}`, { cause: error });
}
