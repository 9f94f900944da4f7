/** Whether loopback addresses may be connected to (`--dev-allow-loopback`). */
export interface GuardOptions {
  readonly allowLoopback: boolean;
}

/** A URL that may be asked for, as far as its text says; or why not. */
export type CheckedUrl =
  | { readonly kind: "url"; readonly url: URL; readonly host: string }
  | { readonly kind: "refused"; readonly problem: string };

/** Checks the URL of an outbound request by its text (spec 50 §5, steps 1, 2 and 4); names are not resolved. */
export function checkOutboundUrl(text: string, options: GuardOptions): CheckedUrl {
  const url = /^https?:\/\/[^/]/i.test(text) ? URL.parse(text) : null;
  if (url === null || url.hostname === "") return refused("want an absolute http or https URL");
  if (url.username !== "" || url.password !== "") return refused("want a URL without user name and password");
  const host = url.hostname.replace(/\.$/, "");
  if (host === "" || host.length > 253) return refused("want an absolute http or https URL");
  if (isDeniedHost(host, options)) return refused(`want another host than "${host}", which is never connected to`);
  return { kind: "url", url, host };
}

/**
 * Whether a host is one that is never connected to. Address literals are as the WHATWG parser writes them: IPv4 in
 * four decimal parts, IPv6 in brackets. Lower case, without a dot at the end.
 */
export function isDeniedHost(host: string, options: GuardOptions): boolean {
  if (host === "localhost" || host.endsWith(".localhost")) return !options.allowLoopback;
  const ipv4 = parseIpv4(host);
  if (ipv4 !== undefined) return isDeniedIpv4(ipv4, options);
  const ipv6 = host.startsWith("[") && host.endsWith("]") ? parseIpv6(host.slice(1, -1)) : undefined;
  return ipv6 !== undefined && isDeniedIpv6(ipv6, options);
}

type Range = readonly [network: bigint, prefix: number];

const ipv4Range = (text: string, prefix: number): Range => [parseIpv4(text) ?? 0n, prefix];
const ipv6Range = (text: string, prefix: number): Range => [parseIpv6(text) ?? 0n, prefix];

const loopbackIpv4 = ipv4Range("127.0.0.0", 8);
const deniedIpv4: readonly Range[] = [
  ipv4Range("0.0.0.0", 8),
  ipv4Range("169.254.0.0", 16),
  ipv4Range("224.0.0.0", 4),
  ipv4Range("255.255.255.255", 32),
  // Metadata services outside of the link-local range.
  ipv4Range("100.100.100.200", 32),
  ipv4Range("168.63.129.16", 32),
  ipv4Range("192.0.0.192", 32),
];
const deniedIpv6: readonly Range[] = [
  ipv6Range("::", 128),
  ipv6Range("fe80::", 10),
  ipv6Range("ff00::", 8),
  ipv6Range("fd00:ec2::", 32),
  ipv6Range("fd20:ce::254", 128),
];
/** Where IPv4 addresses hide in IPv6 ones, and by how many bits they are shifted. */
const embeddings: readonly (readonly [range: Range, shift: bigint])[] = [
  [ipv6Range("::ffff:0:0", 96), 0n],
  [ipv6Range("::", 96), 0n],
  [ipv6Range("64:ff9b::", 96), 0n],
  [ipv6Range("64:ff9b:1::", 48), 0n],
  [ipv6Range("2002::", 16), 80n],
];

function isDeniedIpv4(address: bigint, { allowLoopback }: GuardOptions): boolean {
  if (isWithin(address, loopbackIpv4, 32)) return !allowLoopback;
  return deniedIpv4.some((range) => isWithin(address, range, 32));
}

function isDeniedIpv6(address: bigint, { allowLoopback }: GuardOptions): boolean {
  if (address === 1n) return !allowLoopback;
  if (deniedIpv6.some((range) => isWithin(address, range, 128))) return true;
  return embeddings.some(([range, shift]) => {
    const embedded = (address >> shift) & 0xffff_ffffn;
    return isWithin(address, range, 128) && isDeniedIpv4(embedded, { allowLoopback: false });
  });
}

function isWithin(address: bigint, [network, prefix]: Range, width: number): boolean {
  const rest = BigInt(width - prefix);
  return address >> rest === network >> rest;
}

function parseIpv4(text: string): bigint | undefined {
  const parts = /^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})$/.exec(text)?.slice(1);
  return parts?.reduce((sum, part) => sum * 256n + BigInt(part), 0n);
}

function parseIpv6(text: string): bigint | undefined {
  const [head = "", tail, ...more] = text.split("::");
  if (more.length > 0) return undefined;
  const before = groupsOf(head);
  const after = tail === undefined ? [] : groupsOf(tail);
  const gap = 8 - before.length - after.length;
  if (tail === undefined ? gap !== 0 : gap < 1) return undefined;
  const groups = [...before, ...Array.from({ length: gap }, () => "0"), ...after];
  if (!groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return undefined;
  return groups.reduce((sum, group) => sum * 65_536n + BigInt(`0x${group}`), 0n);
}

function groupsOf(text: string): readonly string[] {
  return text === "" ? [] : text.split(":");
}

function refused(problem: string): CheckedUrl {
  return { kind: "refused", problem };
}
