import { matchesGlob } from "../domain/formats/glob.ts";
import { asObject, asText, at } from "../lib/json.ts";
import type { Credential } from "./registry-client.ts";

/** Largest docker config that is read; a Secret holds no more. */
const mostBytes = 1024 * 1024;
const hubNames = ["index.docker.io", "docker.io", "registry-1.docker.io"];

/**
 * The credential for a repository in a docker config (`.dockerconfigjson`, `config.json`), by the longest key that fits;
 * undefined where it has none. Keys are hosts with or without scheme and path; a host may have globs per label, as the
 * kubelet has it. Helpers that a config names are not run.
 *
 * @throws {TypeError} it cannot be read; what it holds is not told
 */
export function credentialFor(
  config: string,
  { registry, repository }: { readonly registry: string; readonly repository: string },
): Credential | undefined {
  if (config.length > mostBytes) throw new TypeError("is too large");
  let parsed: unknown;
  try {
    parsed = JSON.parse(config);
  } catch {
    throw new TypeError("is not JSON");
  }
  // An older Secret, `.dockercfg`, is the list itself.
  const auths = asObject(at(parsed, "auths") ?? parsed) ?? {};
  const fitting = Object.keys(auths)
    .filter((key) => fits(key, { registry, repository }))
    .sort((a, b) => b.length - a.length);
  for (const key of fitting) {
    const credential = credentialOf(auths[key]);
    if (credential !== undefined) return credential;
  }
  return undefined;
}

function fits(
  key: string,
  { registry, repository }: { readonly registry: string; readonly repository: string },
): boolean {
  const [host = "", ...rest] = key.replace(/^https?:\/\//, "").split("/");
  // `https://index.docker.io/v1/` is how Docker writes the key of its Hub.
  const path = rest
    .join("/")
    .replace(/^v[12](?:\/|$)/, "")
    .replace(/\/+$/, "");
  const names = registry === "index.docker.io" ? hubNames : [registry];
  if (!names.some((name) => hostFits(host.toLowerCase(), name))) return false;
  return path === "" || repository === path || repository.startsWith(`${path}/`);
}

function hostFits(glob: string, host: string): boolean {
  const globs = glob.split(".");
  const labels = host.split(".");
  return globs.length === labels.length && globs.every((each, index) => matchesGlob(each, labels[index] ?? ""));
}

function credentialOf(entry: unknown): Credential | undefined {
  const username = asText(at(entry, "username"));
  const password = asText(at(entry, "password"));
  if (username !== undefined && password !== undefined) return { username, password };
  const decoded = Buffer.from(asText(at(entry, "auth")) ?? "", "base64").toString("utf8");
  const colon = decoded.indexOf(":");
  return colon <= 0
    ? undefined
    : { username: decoded.slice(0, colon), password: decoded.slice(colon + 1).replace(/\0+$/, "") };
}
