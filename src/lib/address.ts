/** An IPv4 or IPv6 address as a number of 32 or 128 bits. */
export interface IpAddress {
  readonly family: 4 | 6;
  readonly value: bigint;
}

/** What the host of a URL is. `loopback`: `localhost` or a name below it, whatever a resolver says (RFC 6761 §6.3). */
export type Host =
  | { readonly kind: "address"; readonly address: IpAddress }
  | { readonly kind: "loopback"; readonly name: string }
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "refused"; readonly name: string };

/** Classes of addresses to which nothing is ever sent; `own`: this very process's pod. */
export type AddressClass = "loopback" | "unspecified" | "link-local" | "multicast" | "broadcast" | "metadata" | "own";

export interface DenyOptions {
  /** 127.0.0.0/8 and ::1 pass, in no embedded form; nothing else is lifted. */
  readonly allowLoopback: boolean;
  /** Addresses of this very process's pod; denied like those of the table. */
  readonly own?: readonly IpAddress[];
}

// Cloud metadata servers that answer to a name too; what they resolve to is denied anyway, this spares the lookup.
const metadataNames = new Set(["metadata.google.internal", "metadata.goog"]);

/**
 * Reads an address in any spelling a C library accepts: `127.1`, `0x7f000001`, `017700000001`, `::ffff:127.0.0.1`, with
 * brackets, a zone (dropped) or one dot at the end of an IPv4 address. Undefined: not an address.
 */
export function parseAddress(text: string): IpAddress | undefined {
  const bare = text.startsWith("[") && text.endsWith("]") ? text.slice(1, -1) : text;
  if (!bare.includes(":")) return parseIpv4(bare);
  const zone = bare.indexOf("%");
  return parseIpv6(zone < 0 ? bare : bare.slice(0, zone));
}

/** inet_aton(3): one to four parts, each decimal, octal or hexadecimal; the last one fills the bytes that are left. */
function parseIpv4(text: string): IpAddress | undefined {
  const parts = (text.endsWith(".") ? text.slice(0, -1) : text).split(".");
  if (parts.length > 4) return undefined;
  let value = 0n;
  for (const [index, part] of parts.entries()) {
    const number = parseIpv4Part(part);
    const room = index < parts.length - 1 ? 8n : BigInt(8 * (5 - parts.length));
    if (number === undefined || number >= 1n << room) return undefined;
    value = (value << room) | number;
  }
  return { family: 4, value };
}

function parseIpv4Part(part: string): bigint | undefined {
  if (part.length > 64) return undefined;
  if (/^0x[0-9a-f]*$/i.test(part)) return part.length === 2 ? 0n : BigInt(part);
  if (/^0[0-7]*$/.test(part)) return part.length === 1 ? 0n : BigInt(`0o${part.slice(1)}`);
  return /^[1-9][0-9]*$/.test(part) ? BigInt(part) : undefined;
}

/** RFC 4291 §2.2: groups of hexadecimal digits, at most one `::`, the last 32 bits optionally as a dotted quad. */
function parseIpv6(text: string): IpAddress | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const [head, tail] = halves.map((half) => (half === "" ? [] : half.split(":")));
  if (head === undefined) return undefined;
  const front = groupsOf(head, tail === undefined);
  const back = groupsOf(tail ?? [], true);
  if (front === undefined || back === undefined) return undefined;
  const missing = 8 - front.length - back.length;
  if (tail === undefined ? missing !== 0 : missing < 1) return undefined;
  const groups = [...front, ...Array<number>(missing).fill(0), ...back];
  return { family: 6, value: groups.reduce((value, group) => (value << 16n) | BigInt(group), 0n) };
}

/** `closing`: these are the last groups of the address, the only place for a dotted quad. */
function groupsOf(words: readonly string[], closing: boolean): readonly number[] | undefined {
  const groups: number[] = [];
  for (const [index, word] of words.entries()) {
    if (/^[0-9a-f]{1,4}$/i.test(word)) {
      groups.push(Number.parseInt(word, 16));
      continue;
    }
    const quad = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(word);
    if (quad === null || !closing || index !== words.length - 1) return undefined;
    const bytes = quad.slice(1).map(Number);
    if (quad.slice(1).some((part) => part.length > 1 && part.startsWith("0"))) return undefined;
    const [a = 0, b = 0, c = 0, d = 0] = bytes;
    if (bytes.some((byte) => byte > 255)) return undefined;
    groups.push(a * 256 + b, c * 256 + d);
  }
  return groups;
}

interface Range extends IpAddress {
  readonly bits: number;
}

function range(text: string): Range {
  const [base = "", bits] = text.split("/");
  const address = parseAddress(base);
  if (address === undefined) throw new RangeError(`"${text}" is not an address range`);
  return { ...address, bits: bits === undefined ? widthOf(address) : Number(bits) };
}

function widthOf({ family }: IpAddress): number {
  return family === 4 ? 32 : 128;
}

function isIn(address: IpAddress, { family, value, bits }: Range): boolean {
  const rest = BigInt(widthOf(address) - bits);
  return address.family === family && address.value >> rest === value >> rest;
}

// Spec 50 §5, step 4. RFC 1918, CGNAT, ULA and 240.0.0.0/4 are left to NetworkPolicies: services live there.
const loopback = ["127.0.0.0/8", "::1"].map(range);
const thisNetwork = range("0.0.0.0/8");
const denied: readonly (readonly [AddressClass, readonly Range[]])[] = [
  ["unspecified", ["0.0.0.0/8", "::"].map(range)],
  ["link-local", ["169.254.0.0/16", "fe80::/10"].map(range)],
  ["multicast", ["224.0.0.0/4", "ff00::/8"].map(range)],
  ["broadcast", ["255.255.255.255"].map(range)],
  // Outside link-local: AWS, Google Cloud, Alibaba, Azure, Oracle.
  ["metadata", ["fd00:ec2::/32", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"].map(range)],
];
const mapped = ["::ffff:0:0/96", "::/96", "64:ff9b::/96"].map(range);
const sixToFour = range("2002::/16");
const localNat64 = range("64:ff9b:1::/48");

/** Whether nothing may ever be sent there (spec 50 §5, step 4), be it as such or as IPv4 inside of IPv6. */
export function isDenied(address: IpAddress, options: DenyOptions): boolean {
  return deniedClass(address, options) !== undefined;
}

/** What kind of address it is to which nothing may ever be sent; undefined: it may. */
export function deniedClass(address: IpAddress, { allowLoopback, own = [] }: DenyOptions): AddressClass | undefined {
  if (isLoopback(address)) return allowLoopback ? undefined : "loopback";
  const asSuch = classAsSuch(address, own);
  if (asSuch !== undefined) return asSuch;
  for (const inner of embedded(address)) {
    const inside = isLoopback(inner) ? "loopback" : classAsSuch(inner, own);
    if (inside !== undefined) return inside;
  }
  return undefined;
}

function isLoopback(address: IpAddress): boolean {
  return loopback.some((of) => isIn(address, of));
}

function classAsSuch(address: IpAddress, own: readonly IpAddress[]): AddressClass | undefined {
  const [found] = denied.find(([, ranges]) => ranges.some((of) => isIn(address, of))) ?? [];
  if (found !== undefined) return found;
  return own.some(({ family, value }) => family === address.family && value === address.value) ? "own" : undefined;
}

/** The IPv4 addresses an IPv6 address may be turned into by the host or by a translator on the way. */
function embedded(address: IpAddress): readonly IpAddress[] {
  if (address.family === 4) return [];
  if (mapped.some((of) => isIn(address, of))) return [ipv4(address.value)];
  if (isIn(address, sixToFour)) return [ipv4(address.value >> 80n)];
  return isIn(address, localNat64) ? localNat64Readings(address.value) : [];
}

/**
 * RFC 8215 leaves the prefix length below 64:ff9b:1::/48 to the network, so each layout of RFC 6052 §2.2 is tried.
 * A layout the network does not use reads mostly zeros, so 0.0.0.0/8 counts only where no other bit is set; in the last
 * layout these zeros are the whole address.
 */
function localNat64Readings(value: bigint): readonly IpAddress[] {
  const low = value & ((1n << 80n) - 1n);
  const upper = low >> 64n;
  const lower = low & ((1n << 56n) - 1n);
  const readings: readonly (readonly [address: IpAddress, rest: bigint])[] = [
    [ipv4((upper << 16n) | (lower >> 40n)), lower & ((1n << 40n) - 1n)],
    [ipv4(((upper & 0xffn) << 24n) | (lower >> 32n)), (upper >> 8n) | (lower & 0xffff_ffffn)],
    [ipv4(lower >> 24n), upper | (lower & 0xff_ffffn)],
    [ipv4(low), ipv4(low).value === 0n ? low : 0n],
  ];
  return readings.filter(([address, rest]) => rest === 0n || !isIn(address, thisNetwork)).map(([address]) => address);
}

function ipv4(value: bigint): IpAddress {
  return { family: 4, value: value & 0xffff_ffffn };
}

/**
 * What the host part of a parsed URL stands for. One dot at the end is dropped and case does not matter.
 * Refused: no host, an empty label, the name of a metadata server.
 */
export function hostOf(hostname: string): Host {
  const lower = hostname.toLowerCase();
  const name = lower.endsWith(".") ? lower.slice(0, -1) : lower;
  const address = parseAddress(name);
  if (address !== undefined) return { kind: "address", address };
  if (name.includes(":") || name.split(".").includes("") || metadataNames.has(name)) return { kind: "refused", name };
  if (name === "localhost" || name.endsWith(".localhost")) return { kind: "loopback", name };
  return { kind: "name", name };
}

/** The usual spelling: dotted quad, or eight groups without `::`. */
export function renderAddress({ family, value }: IpAddress): string {
  const [count, width] = family === 4 ? [4, 8n] : [8, 16n];
  const parts = Array.from({ length: count }, (_, index) => {
    const part = (value >> (width * BigInt(count - 1 - index))) & ((1n << width) - 1n);
    return part.toString(family === 4 ? 10 : 16);
  });
  return parts.join(family === 4 ? "." : ":");
}
