import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { combineShares } from "../../src/build/sops/shamir.ts";
import { renderGoFloat } from "../../src/build/sops/go-number.ts";
import { decryptDocument } from "../../src/build/sops/decrypt-document.ts";
import { PrivateKeys } from "../../src/build/sops/private-keys.ts";
import type { SopsFormat } from "../../src/build/sops/sops-format.ts";
import { ambientVaultToken } from "../../src/kms/vault.ts";
import { createAgeKey, startSops, type AgeKey, type SopsCommand } from "../support/sops.ts";

let sops: SopsCommand;
let age: AgeKey;
let encrypted = "";
beforeAll(async () => {
  [sops, age] = await Promise.all([startSops(), createAgeKey()]);
  encrypted = (
    await sops.encrypt("a.yaml", "a: first\nb: second\nc_unencrypted: x\n", ["--age", age.recipient])
  ).toString();
}, 600_000);
afterAll(() => sops[Symbol.asyncDispose]());

async function open(text: string, format: SopsFormat = "yaml"): Promise<string> {
  const found = await decryptDocument(Buffer.from(text), {
    input: format,
    output: format,
    keys: new PrivateKeys({ age: [{ entry: "a.agekey", text: age.identity }], pgp: [] }),
    opened: new Map(),
  });
  return found.kind === "decrypted" ? Buffer.from(found.bytes).toString() : found.kind;
}

/** Swaps two values; each is bound to its key. */
function swapped(text: string): string {
  const [, one = "", other = ""] = /^a: (.*)\nb: (.*)\n/.exec(text) ?? [];
  return text.replace(`a: ${one}\nb: ${other}`, `a: ${other}\nb: ${one}`);
}

const metadata = "sops:\n    mac: x\n    lastmodified: 2026-01-01T00:00:00Z\n";

describe("documents that somebody made to do harm", () => {
  test.each<[string, (text: string) => string, string]>([
    ["values that changed places", swapped, "MAC mismatch"],
    ["a tag that was shortened", (text) => text.replace(/tag:[^,]{22}==/, "tag:AAAAAAAAAAAAAAAA"), "malformed"],
    [
      "a value that is cut",
      (text) => text.replace(/^a: ENC\[AES256_GCM,data:[^,]*/, "a: ENC[AES256_GCM,data:"),
      "malformed",
    ],
    ["a value that is not encrypted", (text) => text.replace(/^a: .*$/m, "a: plain"), "malformed"],
    ["a number where text should be", (text) => text.replace(/^a: .*$/m, "a: 5"), "malformed"],
    ["a key given twice", (text) => `a: x\n${text}`, "malformed"],
    ["an alias", (text) => text.replace(/^c_unencrypted: x$/m, "c_unencrypted: &x y\nd_unencrypted: *x"), "malformed"],
    ["a merge", (text) => `z_unencrypted: {<<: {a: b}}\n${text}`, "malformed"],
    [
      "nesting without end",
      (text) => `${text}deep_unencrypted: ${"[".repeat(5_000)}${"]".repeat(5_000)}\n`,
      "malformed",
    ],
    ["more values than are allowed", (text) => `${text}many_unencrypted: [${"x,".repeat(10_001)}]\n`, "malformed"],
    ["more bytes than are allowed", (text) => `${text}# ${"x".repeat(5 * 1024 * 1024)}\n`, "malformed"],
    [
      "a regular expression that is none",
      (text) => text.replace("unencrypted_suffix: _unencrypted", 'encrypted_regex: "("'),
      "malformed",
    ],
    ["no time", (text) => text.replace(/^ *lastmodified: .*\n/m, ""), "malformed"],
    ["a time that was moved", (text) => text.replace(/lastmodified: "\d{4}/, 'lastmodified: "2001'), "MAC mismatch"],
    ["metadata that is a list", () => "a: ENC[AES256_GCM,data:x]\nsops: [mac, lastmodified]\n", "plain"],
    ["a second document alone that is encrypted", (text) => `a: b\n---\n${text}`, "malformed"],
    [
      "a value of the first document in another one",
      (text) => `${text}---\n${text.split("\n")[0] ?? ""}\nsops: {}\n`,
      "MAC mismatch",
    ],
    ["more key groups than are allowed", () => `${metadata}    key_groups: [${"{age: []},".repeat(9)}]\n`, "malformed"],
    [
      "more master keys than are allowed",
      () => `${metadata}    age: [${"{recipient: a, enc: b},".repeat(65)}]\n`,
      "malformed",
    ],
    ["no key at all", () => metadata, "no usable key"],
    ["metadata of others", () => "sops:\n    mac: 00:11:22:33:44:55\n", "plain"],
    ["keys of prototypes", () => `__proto__: {polluted: 1}\nconstructor: x\n${metadata}`, "no usable key"],
  ])("%s", async (_, change, outcome) => {
    const text = change(encrypted);
    const found = await open(text).catch((error: unknown) => (error as { readonly class?: string }).class);
    expect(found).toBe(outcome);
    expect(Object.hasOwn(Object.prototype, "polluted")).toBe(false);
  });

  test("what is written about secrets is in no error", async () => {
    const why: unknown = await open(encrypted.replace(/^a: .*$/m, "a: 0pen-s3same")).catch((error: unknown) => error);
    expect(String(why)).not.toContain("0pen-s3same");
  });

  test.each<[SopsFormat, string]>([
    ["dotenv", "sops_mac=x\nsops_lastmodified=2026-01-01T00:00:00Z\nsops_age__list_7__map_enc=x\n"],
    ["dotenv", "sops_mac=x\nsops_mac__map_a=y\nsops_lastmodified=2026-01-01T00:00:00Z\n"],
    ["ini", "[sops]\nmac = x\nlastmodified = 2026-01-01T00:00:00Z\nage__list_99999999999__map_enc = x\n"],
    ["json", `{"data": "ENC[AES256_GCM,data:x", "sops": {"mac": "x", "lastmodified": "2026-01-01T00:00:00Z"`],
  ])("%s metadata that contradicts itself is none, or malformed", async (format, text) => {
    const found = await open(text, format).catch((error: unknown) => (error as { readonly class?: string }).class);
    expect(["plain", "malformed"]).toContain(found);
  });

  test("shares that do not belong together", () => {
    const share = (place: number): Uint8Array => Uint8Array.of(1, 2, 3, place);
    for (const shares of [
      [share(1), share(1)],
      [share(0), share(1)],
      [share(1), Uint8Array.of(1, 2)],
      [Uint8Array.of(1), Uint8Array.of(2)],
    ])
      expect(() => combineShares(shares)).toThrow("do not fit");
  });

  test.each([
    [1e6, "1000000", "1e+06"],
    [1234567.5, "1234567.5", "1.2345675e+06"],
    [1e-7, "0.0000001", "1e-07"],
    [0.1, "0.1", "0.1"],
    [-12.5, "-12.5", "-12.5"],
    [1e22, "10000000000000000000000", "1e+22"],
    [0, "0", "0"],
  ])("%s as the MAC has it, and as YAML", (value, plain, short) => {
    expect(renderGoFloat(value, "f")).toBe(plain);
    expect(renderGoFloat(value, "g")).toBe(short);
  });

  test.each<[string, string | undefined, string | undefined, boolean]>([
    ["https://vault.example/", undefined, "https://vault.example", true],
    ["https://vault.example.evil.example/", undefined, "https://vault.example", false],
    ["https://vault.example:8200/", undefined, "https://vault.example", false],
    ["http://vault.example/", undefined, "https://vault.example", false],
    ["https://vault.example/a/b", "https://vault.example/a", undefined, true],
    ["https://vault.example/ab", "https://vault.example/a", undefined, false],
    ["https://vault.example/", "none", "https://vault.example", false],
    ["https://anything.example/", "all", undefined, true],
    ["https://anything.example/", undefined, "all", false],
    ["https://vault.example@evil.example/", undefined, "https://vault.example", false],
    ["https://vault.example/", undefined, undefined, false],
  ])("a Vault at %s, allowed %s, own %s: the controller's token goes there: %s", (asked, allowed, address, goes) => {
    expect(ambientVaultToken(asked, { token: "t", allowed, address })).toBe(goes ? "t" : undefined);
  });
});
