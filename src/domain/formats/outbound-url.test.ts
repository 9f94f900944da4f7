import { describe, expect, test } from "vitest";
import { checkOutboundUrl } from "./outbound-url.ts";

const open: readonly string[] = [
  "http://example.org",
  "https://example.org/a?b=c#d",
  "HTTPS://EXAMPLE.ORG:8443/",
  "http://example.org.",
  "http://10.0.0.1",
  "http://192.168.1.1:9090/api",
  "http://172.16.0.1",
  "http://100.64.0.1",
  "http://240.0.0.1",
  "http://[fd00::1]/",
  "http://[2001:db8::1]",
  "http://[64:ff9b::a00:1]",
  "http://prometheus.monitoring:9090",
  "http://notlocalhost",
  "http://localhost.example.org",
];

const loopback: readonly string[] = [
  "http://localhost",
  "http://LOCALHOST:80",
  "http://localhost.",
  "http://a.localhost",
  "http://127.0.0.1",
  "http://127.0.0.1./",
  "http://127.1",
  "http://0x7f000001",
  "http://0x7f.1",
  "http://017700000001",
  "http://2130706433",
  "http://127.255.255.254",
  "http://[::1]",
  "http://[0:0:0:0:0:0:0:1]",
  "http://１２７.0.0.1",
];

const denied: readonly string[] = [
  "",
  "example.org",
  "/path",
  "//example.org",
  "ftp://example.org",
  "file:///etc/passwd",
  "http:example.org",
  "http:///example.org",
  "http://",
  "https://?q",
  "http://user@example.org",
  "http://user:word@example.org",
  "http://exa mple.org",
  "http://256.1.1.1",
  "http://[::1",
  "http://.",
  "http://0.0.0.0",
  "http://0",
  "http://0.1.2.3",
  "http://169.254.169.254/latest",
  "http://0xa9fea9fe",
  "http://2852039166",
  "http://224.0.0.1",
  "http://239.255.255.255",
  "http://255.255.255.255",
  "http://100.100.100.200",
  "http://168.63.129.16",
  "http://192.0.0.192",
  "http://[::]",
  "http://[fe80::1]",
  "http://[febf::1]",
  "http://[ff02::1]",
  "http://[fd00:ec2::254]",
  "http://[fd20:ce::254]",
  "http://[::ffff:127.0.0.1]",
  "http://[::ffff:a9fe:a9fe]",
  "http://[::127.0.0.1]",
  "http://[64:ff9b::7f00:1]",
  "http://[64:ff9b::169.254.169.254]",
  "http://[64:ff9b:1::a9fe:a9fe]",
  "http://[2002:7f00:1::]",
  "http://[2002:a9fe:a9fe::1]",
  `http://${"a".repeat(100_000)} `,
];

const kindOf = (url: string, allowLoopback = false): string => checkOutboundUrl(url, { allowLoopback }).kind;

describe("checkOutboundUrl", () => {
  test.each(open)("%s may be asked", (url) => {
    expect(kindOf(url)).toBe("url");
  });

  test.each(loopback)("%s is loopback", (url) => {
    expect(kindOf(url)).toBe("refused");
    expect(kindOf(url, true)).toBe("url");
  });

  test.each(denied.map((url) => [url.slice(0, 60), url] as const))("%s is refused", (_short, url) => {
    expect(kindOf(url)).toBe("refused");
    expect(kindOf(url, true)).toBe("refused");
  });
});
