import { describe, expect, test } from "vitest";
import { asObject, at } from "../../lib/json.ts";
import { issuePair } from "../../certificates/issue.ts";
import { costlyKey } from "../../../test/support/costly-key.ts";
import { readKubeConfig } from "./kubeconfig.ts";
import { parseTenantYaml } from "./yaml-job.ts";

type Part = Readonly<Record<string, unknown>>;

const base64 = (text: string): string => Buffer.from(text, "utf8").toString("base64");
const server = "https://api.example:6443";
const config = (cluster: Part, user: Part = {}): Part => ({
  "current-context": "a",
  contexts: [{ name: "a", context: { cluster: "c", user: "u", namespace: "ignored" } }],
  clusters: [{ name: "c", cluster }],
  users: [{ name: "u", user }],
});
const read = (value: unknown, insecureTls = false) =>
  readKubeConfig(value, { insecureTls, fail: (problem) => new Error(problem) });
const headerOf = async (value: unknown) => read(value).authorization?.(new AbortController().signal);
const pair = await issuePair({ names: ["api.example"], validityMs: 3_600_000, now: Date.now() });
const other = await issuePair({ names: ["api.example"], validityMs: 3_600_000, now: Date.now() });

describe("what is kept of a kubeconfig", () => {
  test("address, trust and name of the server", () => {
    const authority = { "certificate-authority-data": base64(pair.caPem), "tls-server-name": "api.internal" };
    const found = read(config({ server, ...authority, "proxy-url": "http://proxy.example:3128" }));
    expect(found).toMatchObject({
      caPem: pair.caPem,
      tlsServerName: "api.internal",
      insecureSkipTlsVerify: false,
      actsAs: undefined,
      certificate: undefined,
    });
    expect([found.server.href, found.proxy?.href]).toEqual([`${server}/`, "http://proxy.example:3128/"]);
  });

  test("without an authority the system's roots are trusted, an unverified server only by the flag", () => {
    expect(read(config({ server })).caPem).toBeUndefined();
    const insecure = config({ server, "insecure-skip-tls-verify": true });
    expect(() => read(insecure)).toThrow("--insecure-kubeconfig-tls");
    expect(read(insecure, true).insecureSkipTlsVerify).toBe(true);
  });

  test("a token before a password, a certificate beside either", async () => {
    expect(await headerOf(config({ server }, { token: "t", username: "u", password: "p" }))).toBe("Bearer t");
    expect(await headerOf(config({ server }, { username: "u", password: "p:q" }))).toBe(`Basic ${base64("u:p:q")}`);
    expect(await headerOf(config({ server }))).toBeUndefined();
    const keys = { "client-certificate-data": base64(pair.certPem), "client-key-data": base64(pair.keyPem) };
    expect(read(config({ server }, keys)).certificate).toEqual({ certPem: pair.certPem, keyPem: pair.keyPem });
  });

  test("whom to act as", () => {
    const as = { as: "jane", "as-uid": "1", "as-groups": ["g"], "as-user-extra": { scope: ["x"] } };
    expect(read(config({ server }, as)).actsAs).toEqual({
      user: "jane",
      uid: "1",
      groups: ["g"],
      extra: { scope: ["x"] },
    });
  });

  test("nothing of contexts that are not current, however dangerous", () => {
    const bad = { exec: { command: "sh" }, tokenFile: "/token" };
    const both = config({ server });
    const users = [...(both["users"] as readonly unknown[]), { name: "bad", user: bad }];
    expect(read({ ...both, users }).server.href).toBe(`${server}/`);
  });

  test("empty and null fields are absent", () => {
    expect(read(config({ server, "proxy-url": "" }, { exec: null, tokenFile: "" })).proxy).toBeUndefined();
  });
});

describe("what is refused, naming the field", () => {
  test.each<[string, unknown, string]>([
    ["a list", [], "is no mapping"],
    ["no current context", {}, "current-context is missing"],
    ["an unknown context", { "current-context": "b" }, "current-context names"],
    ["an unknown cluster", { ...config({ server }), clusters: [] }, "clusters"],
    ["an unknown user", { ...config({ server }), users: "none" }, "users"],
    ["no server", config({}), "clusters[].cluster.server is missing"],
    ["a server that is no URL", config({ server: "there" }), "clusters[].cluster.server is no URL"],
    ["a server that is no text", config({ server: 1 }), "clusters[].cluster.server is no text"],
    ["http", config({ server: "http://a" }), 'clusters[].cluster.server has scheme "http"'],
    ["a password in the URL", config({ server: "https://u:p@a" }), "clusters[].cluster.server carries a user"],
    ["a query", config({ server: "https://a/?x=1" }), "clusters[].cluster.server carries a query"],
    ["SOCKS", config({ server, "proxy-url": "socks5://a" }), "clusters[].cluster.proxy-url has scheme"],
    [
      "a proxy with a password",
      config({ server, "proxy-url": "http://u:p@a" }),
      "clusters[].cluster.proxy-url carries",
    ],
    [
      "a line break as server name",
      config({ server, "tls-server-name": "a\r\nb" }),
      "clusters[].cluster.tls-server-name",
    ],
    ["an authority that is no base64", config({ server, "certificate-authority-data": "%" }), "is no base64"],
    ["an authority without PEM", config({ server, "certificate-authority-data": base64("x") }), "holds no PEM"],
    [
      "an authority of garbage",
      config({
        server,
        "certificate-authority-data": base64("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"),
      }),
      "certificate-authority-data holds a PEM certificate that cannot be read",
    ],
    [
      "an authority file",
      config({ server, "certificate-authority": "ca.crt" }),
      "clusters[].cluster.certificate-authority is refused",
    ],
    ["insecure as text", config({ server, "insecure-skip-tls-verify": "yes" }), "is no boolean"],
    ["exec", config({ server }, { exec: {} }), "users[].user.exec is refused"],
    ["exec of another type", config({ server }, { exec: false }), "users[].user.exec is refused"],
    ["an auth provider", config({ server }, { "auth-provider": {} }), "users[].user.auth-provider is refused"],
    ["a token file", config({ server }, { tokenFile: "t", token: "t" }), "users[].user.tokenFile is refused"],
    [
      "a certificate file",
      config({ server }, { "client-certificate": "c" }),
      "users[].user.client-certificate is refused",
    ],
    ["a key file", config({ server }, { "client-key": "k" }), "users[].user.client-key is refused"],
    ["a token with a line break", config({ server }, { token: "a\r\nx: y" }), "users[].user.token holds"],
    ["a colon in the user name", config({ server }, { username: "a:b" }), "users[].user.username holds a colon"],
    ["a header as user", config({ server }, { as: "a\nb" }), "users[].user.as holds"],
    ["groups without a user", config({ server }, { "as-groups": ["g"] }), "users[].user.as is missing"],
    ["a group that is no text", config({ server }, { as: "a", "as-groups": [1] }), "users[].user.as-groups holds"],
    [
      "a certificate alone",
      config({ server }, { "client-certificate-data": base64(pair.certPem) }),
      "client-key-data is missing",
    ],
    [
      "a key alone",
      config({ server }, { "client-key-data": base64(pair.keyPem) }),
      "client-certificate-data is missing",
    ],
    [
      "the key of another certificate",
      config({ server }, { "client-certificate-data": base64(pair.certPem), "client-key-data": base64(other.keyPem) }),
      "users[].user.client-key-data is not",
    ],
    ...["client-certificate-data", "client-key-data"].map((field): [string, unknown, string] => [
      `64 KiB of ${field}`,
      config(
        { server },
        {
          "client-certificate-data": base64(pair.certPem),
          "client-key-data": base64(pair.keyPem),
          [field]: base64(`${pair.certPem}${"#".repeat(65 * 1024)}`),
        },
      ),
      `users[].user.${field} is larger than 64 KiB`,
    ]),
    [
      "a key of more bits than can be signed with",
      config(
        { server },
        {
          "client-certificate-data": base64(pair.certPem),
          "client-key-data": base64(costlyKey({ modulusBytes: 1_026, factorBytes: 513 })),
        },
      ),
      "users[].user.client-key-data has a key of more than 8192 bits: give",
    ],
  ])("%s", (_, value, problem) => {
    expect(() => read(value)).toThrow(problem);
  });

  test("no message quotes a secret", () => {
    const secret = "hunter2";
    for (const field of ["token", "password", "client-key-data", "client-certificate-data", "as", "username"]) {
      try {
        read(config({ server }, { [field]: `${secret}\n:`, "client-key": "x" }));
      } catch (error) {
        expect(String(error)).not.toContain(secret);
      }
    }
  });
});

describe("a tenant's YAML", () => {
  test("names of prototypes are names like any other", () => {
    const value = parseTenantYaml("__proto__: {a: 1}\nconstructor: x");
    expect(Object.keys(asObject(value) ?? {})).toEqual(["__proto__", "constructor"]);
    expect(at({}, "a")).toBeUndefined();
    expect(at(value, "a")).toBeUndefined();
  });

  test.each([
    [
      "aliases without end",
      `a: &a [x]\n${Array.from({ length: 101 }, (_, index) => `b${String(index)}: *a\n`).join("")}`,
    ],
    ["nesting without end", "[".repeat(100_000)],
    ["keys that are mappings", "? {a: b}\n: c"],
    ["a tag of a program", "a: !!js/function 'x'"],
  ])("%s is refused", (_, text) => {
    expect(() => parseTenantYaml(text)).toThrow();
  });
});
