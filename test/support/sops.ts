import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateIdentity, identityToRecipient } from "age-encryption";
import { generateKey } from "openpgp";
import { toolPath } from "../../src/dev/tools.ts";

/** A key of age: what is kept, and whom others encrypt for. */
export interface AgeKey {
  readonly identity: string;
  readonly recipient: string;
}

export async function createAgeKey(): Promise<AgeKey> {
  const identity = await generateIdentity();
  return { identity, recipient: await identityToRecipient(identity) };
}

/** A key of OpenPGP without passphrase. */
export interface PgpKey {
  readonly armored: string;
  readonly publicKey: string;
  readonly fingerprint: string;
}

export async function createPgpKey(): Promise<PgpKey> {
  const { privateKey, publicKey } = await generateKey({
    type: "rsa",
    rsaBits: 2048,
    userIDs: [{ name: "test", email: "test@example.test" }],
    format: "object",
  });
  return {
    armored: privateKey.armor(),
    publicKey: publicKey.armor(),
    fingerprint: publicKey.getFingerprint().toUpperCase(),
  };
}

/** The `sops` command, in a folder of its own. */
export interface SopsCommand extends AsyncDisposable {
  /** The file as the command encrypts it; `name` says its format. */
  encrypt(
    name: string,
    content: string | Uint8Array,
    args?: readonly string[],
    env?: Readonly<Record<string, string>>,
  ): Promise<Buffer>;
  /** What `sops --decrypt` makes of it, with these keys. */
  decrypt(name: string, content: Uint8Array, keys: SopsKeys): Promise<Buffer>;
  /** Lets the command encrypt for a key of OpenPGP. */
  trust(key: PgpKey): Promise<void>;
  /** Writes the configuration that later calls use. */
  configure(yaml: string): Promise<void>;
}

export interface SopsKeys {
  readonly age?: readonly AgeKey[];
  readonly env?: Readonly<Record<string, string>>;
}

export async function startSops(): Promise<SopsCommand> {
  const sops = await toolPath("sops");
  const folder = await mkdtemp(join(tmpdir(), "sops-"));
  const base = { PATH: process.env["PATH"] ?? "", HOME: folder, GNUPGHOME: folder };
  const run = (command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const options = {
        cwd: folder,
        env: { ...base, ...env },
        encoding: "buffer",
        maxBuffer: 64 * 1024 * 1024,
      } as const;
      execFile(command, [...args], options, (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else reject(new Error(`${command} ${args.join(" ")}: ${stderr.toString("utf8")}`, { cause: error }));
      });
    });
  return {
    async encrypt(name, content, args = [], env = {}) {
      await writeFile(join(folder, name), content);
      return await run(sops, [...args, "--encrypt", name], env);
    },
    async decrypt(name, content, { age = [], env = {} }) {
      await writeFile(join(folder, name), content);
      return await run(sops, ["--decrypt", name], {
        SOPS_AGE_KEY: age.map(({ identity }) => identity).join("\n"),
        ...env,
      });
    },
    async trust(key) {
      await writeFile(join(folder, "key.asc"), key.armored);
      await run("gpg", ["--batch", "--quiet", "--import", "key.asc"]);
    },
    async configure(yaml) {
      await writeFile(join(folder, ".sops.yaml"), yaml);
    },
    async [Symbol.asyncDispose]() {
      await run("gpgconf", ["--kill", "all"]).catch(() => undefined);
      await rm(folder, { recursive: true, force: true });
    },
  };
}
