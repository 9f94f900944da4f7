import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { decryptDocument } from "../../src/build/sops/decrypt-document.ts";
import { PrivateKeys } from "../../src/build/sops/private-keys.ts";
import { formatOf } from "../../src/build/sops/sops-format.ts";
import { createAgeKey, createPgpKey, startSops, type AgeKey, type PgpKey, type SopsCommand } from "../support/sops.ts";

let sops: SopsCommand;
let age: AgeKey;
let other: AgeKey;
let pgp: PgpKey;
beforeAll(async () => {
  [sops, age, other, pgp] = await Promise.all([startSops(), createAgeKey(), createAgeKey(), createPgpKey()]);
  await sops.trust(pgp);
}, 600_000);
afterAll(() => sops[Symbol.asyncDispose]());

interface Keys {
  readonly age?: readonly string[];
  readonly pgp?: readonly string[];
}

async function ours(name: string, content: Uint8Array, { age = [], pgp = [] }: Keys): Promise<Buffer> {
  const texts = (all: readonly string[]) => all.map((text) => ({ entry: "test", text }));
  const opened = await decryptDocument(content, {
    input: formatOf(name),
    output: formatOf(name),
    keys: new PrivateKeys({ age: texts(age), pgp: texts(pgp) }),
    opened: new Map(),
  });
  if (opened.kind !== "decrypted") throw new Error(`it is ${opened.kind}`);
  return Buffer.from(opened.bytes);
}

/** Byte by byte, but for the empty line that ends the comments a document begins with. */
function layout(bytes: Buffer): string {
  return bytes.toString("latin1").replace(/^((?:#.*\n)+)\n/, "$1");
}

const secret = `# about
apiVersion: v1
kind: Secret
metadata:
    name: s # inline
    annotations:
        n_unencrypted: "5"
stringData:
    # before
    plain: hello
    empty: ""
    number: "42"
    yes: "yes"
    colon: 'a: b # c'
    many: |
        first
          second

        third
    no-newline: |-
        a
        b
    unicode: "\\u00fcber \\U0001F600"
    quote: "it's \\"x\\""
    leading: " x"
    tab: "a\\tb"
    base60: "12:30:45"
values:
    int: 12
    negative: -7
    big: 9007199254740993
    float: 1.5
    million: 1000000.0
    small: 0.00000001
    yes: true
    no: false
    nothing: null
    date: 2024-02-03
    list:
        - a
        # in list
        - 2
        - b: true
    emptyMap: {}
    emptyList: []
`;
const yaml = { "secret.yaml": secret, "multi.yaml": `a: 1\n---\nb: two\n---\nc:\n    - d\n` };
const rows: readonly (readonly [string, string, string | Uint8Array, readonly string[]])[] = [
  ["a manifest in YAML", "secret.yaml", yaml["secret.yaml"], []],
  ["several documents", "multi.yaml", yaml["multi.yaml"], []],
  ["encrypted_regex", "a.yaml", secret, ["--encrypted-regex", "^(data|stringData)$"]],
  ["unencrypted_regex", "a.yaml", secret, ["--unencrypted-regex", "^(metadata|kind|apiVersion)$"]],
  ["encrypted_suffix", "a.yaml", "a_enc: x\nb: y\nc:\n    d_enc:\n        e: f\n", ["--encrypted-suffix", "_enc"]],
  ["unencrypted_suffix", "a.yaml", "a_plain: x\nb: y\n", ["--unencrypted-suffix", "_plain"]],
  [
    "encrypted_comment_regex",
    "a.yaml",
    "a: x\n# sops:enc\nb: y\nc: z # sops:enc\nd:\n    # sops:enc\n    e: f\n    g: h\n",
    ["--encrypted-comment-regex", "sops:enc"],
  ],
  [
    "unencrypted_comment_regex",
    "a.yaml",
    "a: x\n# sops:dec\nb: y\nc: z # sops:dec\nd:\n    # sops:dec\n    e: f\n    g: h\n",
    ["--unencrypted-comment-regex", "sops:dec"],
  ],
  ["mac_only_encrypted", "a.yaml", secret, ["--mac-only-encrypted", "--encrypted-regex", "^stringData$"]],
  [
    "JSON",
    "a.json",
    JSON.stringify({ a: "<b> & \u2028", n: 1, f: 0.25, big: 1e25, t: true, z: null, l: [1, "x", { y: [] }], o: {} }),
    [],
  ],
  ["JSON with unencrypted members", "a.json", '{"a": "x", "b_unencrypted": {"c": [1, "é"]}}', []],
  ["dotenv", "a.env", "# a comment\nA=b\nEMPTY=\nMULTI=a\\nb\nEQ=a=b\n", []],
  ["INI", "a.ini", '; about\n[one]\n# note\nkey = value\nlonger-key = a;b\n\n[two]\nx = 1\nq = "two words"\n', []],
  ["a text file", "notes.txt", "line\n\tother: [x\n", []],
  ["bytes that are no text", "blob.bin", Uint8Array.from({ length: 1000 }, (_, index) => (index * 7) % 256), []],
];

describe("files that the sops command wrote", () => {
  test.each(rows)("[50.21] %s: plaintext equals sops -d", async (_, name, content, args) => {
    const encrypted = await sops.encrypt(name, content, ["--age", age.recipient, ...args]);
    const expected = await sops.decrypt(name, encrypted, { age: [age] });
    expect(encrypted.includes("ENC[AES256_GCM")).toBe(true);
    const found = await ours(name, encrypted, { age: [other.identity, age.identity] });
    expect(layout(found)).toBe(layout(expected));
  });

  test("[50.21] PGP", async () => {
    const encrypted = await sops.encrypt("p.yaml", secret, ["--pgp", pgp.fingerprint]);
    const expected = await sops.decrypt("p.yaml", encrypted, {});
    expect(layout(await ours("p.yaml", encrypted, { pgp: [pgp.armored] }))).toBe(layout(expected));
  });

  test.each([2, 3])("[50.21] key groups with a threshold of %s of 3", async (threshold) => {
    const third = await createAgeKey();
    await sops.configure(
      `creation_rules:
  - path_regex: groups\\.yaml
    shamir_threshold: ${threshold}
    key_groups:
      - age: ["${age.recipient}"]
      - pgp: ["${pgp.fingerprint}"]
      - age: ["${third.recipient}"]
`,
    );
    const encrypted = await sops.encrypt("groups.yaml", secret);
    const expected = await sops.decrypt("groups.yaml", encrypted, { age: [age, third] });
    const all = await ours("groups.yaml", encrypted, { age: [age.identity, third.identity], pgp: [pgp.armored] });
    expect(layout(all)).toBe(layout(expected));
    const two = ours("groups.yaml", encrypted, { age: [third.identity], pgp: [pgp.armored] });
    if (threshold === 2) expect(layout(await two)).toBe(layout(expected));
    else await expect(two).rejects.toMatchObject({ class: "no usable key" });
    await expect(ours("groups.yaml", encrypted, { age: [age.identity] })).rejects.toMatchObject({
      class: "no usable key",
    });
  });
});
