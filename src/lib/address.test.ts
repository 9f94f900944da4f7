import { BlockList, isIPv4, isIPv6 } from "node:net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { hostOf, isDenied, parseAddress, renderAddress, type IpAddress } from "./address.ts";

function address(text: string): IpAddress {
  const parsed = parseAddress(text);
  if (parsed === undefined) throw new Error(`"${text}" is not an address`);
  return parsed;
}

function denied(text: string, allowLoopback = false): boolean {
  return isDenied(address(text), { allowLoopback });
}

describe("parseAddress", () => {
  test.each([
    ["127.0.0.1", "127.0.0.1"],
    ["127.1", "127.0.0.1"],
    ["127.0.1", "127.0.0.1"],
    ["2130706433", "127.0.0.1"],
    ["0x7f000001", "127.0.0.1"],
    ["0X7F.1", "127.0.0.1"],
    ["017700000001", "127.0.0.1"],
    ["0177.0.0.01", "127.0.0.1"],
    ["127.0.0.1.", "127.0.0.1"],
    ["0", "0.0.0.0"],
    ["0x", "0.0.0.0"],
    ["255.255.255.255", "255.255.255.255"],
    ["4294967295", "255.255.255.255"],
    ["10.65535", "10.0.255.255"],
    ["[::1]", "0:0:0:0:0:0:0:1"],
    ["::", "0:0:0:0:0:0:0:0"],
    ["fe80::1%eth0", "fe80:0:0:0:0:0:0:1"],
    ["::ffff:1.2.3.4", "0:0:0:0:0:ffff:102:304"],
    ["1:2:3:4:5:6:7.8.9.10", "1:2:3:4:5:6:708:90a"],
    ["1::8", "1:0:0:0:0:0:0:8"],
  ])("%s is %s", (text, expected) => {
    expect(renderAddress(address(text))).toBe(expected);
  });

  test.each([
    ...[
      "",
      ".",
      "256.0.0.1",
      "1.16777216",
      "1.2.3.4.5",
      "4294967296",
      "08",
      "0x1g",
      "1..2",
      "1.2.3.4..",
      "-1",
      "1e3",
      " 1",
      "a",
    ],
    ...[":", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "12345::", "::1.2.3", "1.2.3.4::", "::01.2.3.4"],
    ...["::256.0.0.1", "g::", "1:2:3:4:5:6:7:8::", "[::1", "9".repeat(5_000)],
  ])("%j is no address", (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });

  test("agrees with the platform on every usual spelling", () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
        const family = isIPv4(text) ? 4 : isIPv6(text) ? 6 : 0;
        const list = new BlockList();
        const parsed = parseAddress(text);
        expect(parsed?.family).toBe(family);
        if (parsed === undefined || family === 0) return;
        list.addAddress(text, family === 4 ? "ipv4" : "ipv6");
        expect(list.check(renderAddress(parsed), family === 4 ? "ipv4" : "ipv6")).toBe(true);
      }),
    );
  });

  test("takes for IPv6 only what the platform takes", () => {
    const piece = fc.oneof(
      fc.constantFrom(":", "::", "0", "ffff", "1.2.3.4", "12345", "g"),
      fc.string({ maxLength: 2 }),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const text = pieces.join("");
        fc.pre(text.includes(":") && !/[%[\]]/.test(text));
        expect(parseAddress(text) !== undefined).toBe(isIPv6(text));
      }),
      { numRuns: 2_000 },
    );
  });

  test("agrees with the URL parser on every spelling of an IPv4 address", () => {
    const part = fc.oneof(
      fc.nat({ max: 300 }).map(String),
      fc.nat({ max: 2 ** 32 }).map((value) => `0x${value.toString(16)}`),
      fc.nat({ max: 2 ** 17 }).map((value) => `0${value.toString(8)}`),
      fc.nat({ max: 2 ** 33 }).map(String),
    );
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 4 }), (parts) => {
        const text = parts.join(".");
        const parsed = parseAddress(text);
        expect(parsed === undefined ? undefined : renderAddress(parsed)).toBe(URL.parse(`http://${text}/`)?.hostname);
      }),
      { numRuns: 1_000 },
    );
  });
});

describe("isDenied", () => {
  test.each([
    ...["127.0.0.1", "127.255.255.255", "::1", "0.0.0.0", "0.1.2.3", "::", "169.254.0.1", "169.254.169.254"],
    ...["fe80::1", "febf::1", "224.0.0.1", "239.255.255.255", "ff02::1", "255.255.255.255"],
    ...["fd00:ec2::254", "fd00:ec2:ffff::1", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"],
  ])("[50.36] %s is denied", (text) => {
    expect(denied(text)).toBe(true);
  });

  test.each([
    ...["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.100.100.201", "240.0.0.1"],
    ...["255.255.255.254", "8.8.8.8", "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "1.0.0.0"],
    ...["223.255.255.255", "168.63.129.17", "192.0.0.191", "fc00::1", "fd00:ec1::1", "fd20:ce::253", "fec0::1"],
    ...["2001:db8::1", "fe7f::1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::", "64:ff9b:1::10.0.0.1"],
  ])("[50.36] %s passes", (text) => {
    expect(denied(text)).toBe(false);
  });

  const inner = ["127.0.0.1", "0.0.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255", "100.100.100.200"];
  test.each(inner)("[50.36] %s is denied inside of IPv6, in every form", (text) => {
    const v4 = address(text).value;
    const a = v4 >> 16n;
    const b = v4 & 0xffffn;
    const hex = (value: bigint): string => value.toString(16);
    const forms = [
      `::ffff:${text}`,
      `::${text}`,
      `64:ff9b::${text}`,
      `64:ff9b:1::${text}`,
      `64:ff9b:1:7:8:9:${text}`,
      `2002:${hex(a)}:${hex(b)}::1`,
      // RFC 6052 §2.2 with a prefix of 48, 56 and 64 bits.
      `64:ff9b:1:${hex(a)}:${hex(b >> 8n)}:${hex((b & 0xffn) << 8n)}::`,
      `64:ff9b:1:${hex(v4 >> 24n)}:${hex((v4 >> 8n) & 0xffffn)}:${hex((v4 & 0xffn) << 8n)}::`,
    ];
    const passing = forms.filter((form) => !isDenied(address(form), { allowLoopback: true }));
    expect(passing).toEqual(text === "0.0.0.1" ? ["::0.0.0.1"] : []); // Which is ::1.
  });

  test("[50.36] the pod's own addresses are denied, inside of IPv6 too", () => {
    const own = [address("10.1.2.3"), address("fd12::5")];
    const check = (text: string): boolean => isDenied(address(text), { allowLoopback: true, own });
    expect(["10.1.2.3", "::ffff:10.1.2.3", "fd12:0::5"].map(check)).toEqual([true, true, true]);
    expect(["10.1.2.4", "fd12::6"].map(check)).toEqual([false, false]);
  });

  test("[50.36] allowing loopback lifts 127.0.0.0/8 and ::1 and nothing else", () => {
    expect(["127.0.0.1", "127.9.9.9", "::1"].map((text) => denied(text, true))).toEqual([false, false, false]);
    const still = ["0.0.0.0", "::", "169.254.1.1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::127.0.0.1", "::2"];
    expect(still.filter((text) => !denied(text, true))).toEqual([]);
  });
});

describe("hostOf", () => {
  test.each([
    ["Example.COM.", { kind: "name", name: "example.com" }],
    ["source-controller.flux-system.svc", { kind: "name", name: "source-controller.flux-system.svc" }],
    ["localhost", { kind: "loopback", name: "localhost" }],
    ["LOCALHOST.", { kind: "loopback", name: "localhost" }],
    ["a.b.localhost.", { kind: "loopback", name: "a.b.localhost" }],
    ["notlocalhost", { kind: "name", name: "notlocalhost" }],
    ["localhost.example.com", { kind: "name", name: "localhost.example.com" }],
    ["localhost..", { kind: "refused", name: "localhost." }],
    ["", { kind: "refused", name: "" }],
    [".", { kind: "refused", name: "" }],
    ["a..b", { kind: "refused", name: "a..b" }],
    ["metadata.google.internal.", { kind: "refused", name: "metadata.google.internal" }],
    ["0x7f.1.", { kind: "address", address: { family: 4, value: 0x7f000001n } }],
    ["[::1]", { kind: "address", address: { family: 6, value: 1n } }],
  ])("%j, a host", (text, expected) => {
    expect(hostOf(text)).toEqual(expected);
  });
});
