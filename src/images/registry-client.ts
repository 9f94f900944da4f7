import { createHash } from "node:crypto";
import type { ImageReference } from "../domain/images/reference.ts";
import { asText, at } from "../lib/json.ts";
import type { GuardedFetch, GuardedResponse } from "../outbound/guard.ts";
import { OutboundError } from "../outbound/outbound-error.ts";
import { mayReceiveCredentials, parseChallenge, type Challenge } from "./challenge.ts";
import type { ReadBudget } from "./read-budget.ts";
import { RegistryError } from "./registry-error.ts";

/** What a registry knows somebody by. */
export interface Credential {
  readonly username: string;
  readonly password: string;
}

/** Spec 50 §5. */
const mostRedirects = 5;
/** What the distribution specification has registries accept at most. */
const mostManifestBytes = 4 * 1024 * 1024;
const mostTokenBytes = 64 * 1024;
/** Read as JSON, which nothing else runs beside: bundles' manifests, and pages of referrers. */
const mostBundleManifestBytes = 64 * 1024;
const mostIndexBytes = 512 * 1024;
const mostIndexPages = 8;

const indexType = "application/vnd.oci.image.index.v1+json";
/** How registries answer what they do not have an API for. */
const noApi: readonly number[] = [400, 404, 405, 406, 501];

const manifestTypes = [
  indexType,
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");

export interface RegistryOptions {
  readonly fetch: GuardedFetch;
  /** Whether `host[:port]` is spoken to in the clear. */
  readonly isInsecure: (registry: string) => boolean;
  /** Of everything that is read; without one, each answer has its own bound alone. */
  readonly budget?: ReadBudget;
}

/** A repository of a registry, asked in the name of one who pulls from it. Lives for one image. */
export interface Repository {
  /** The digest of a tag. @throws {RegistryError} */
  resolve(tag: string, signal: AbortSignal): Promise<string>;
  /** Every descriptor that refers to the digest, as the registry lists them, at most `most`. @throws {RegistryError} */
  referrers(digest: string, most: number, signal: AbortSignal): Promise<readonly Descriptor[]>;
  /** The manifest of a bundle, that has this digest. @throws {RegistryError} */
  manifest(digest: string, signal: AbortSignal): Promise<unknown>;
  /** A blob that has this digest. @throws {RegistryError} */
  blob(digest: string, maxBytes: number, signal: AbortSignal): Promise<Uint8Array>;
}

export interface Descriptor {
  readonly digest: string;
  readonly artifactType: string;
}

interface Asked {
  readonly method: "GET" | "HEAD";
  readonly path: string;
  readonly accept: string;
  readonly maxBytes: number;
  /** Answers that are undefined instead of an error. */
  readonly absent?: readonly number[];
  /** What else the answer is undefined as well. */
  readonly type?: string;
}

interface Answer {
  readonly bytes: Uint8Array;
  readonly header: (name: string) => string | undefined;
}

/**
 * @param credential asked for once, when the registry wants to know who asks: its host has passed every check by then. Tried
 * without one where it gives none.
 */
export function openRepository(
  { registry, repository }: Pick<ImageReference, "registry" | "repository">,
  options: RegistryOptions,
  credential: (signal: AbortSignal) => Promise<Credential | undefined>,
): Repository {
  const base = new URL(`${options.isInsecure(registry) ? "http" : "https"}://${registry}`);
  let authorization: string | undefined;

  const ask = async (asked: Asked, signal: AbortSignal): Promise<Answer | undefined> => {
    let first = await send(asked, authorization, signal);
    if (first.status === 401) {
      const challenge = parseChallenge(first.header("www-authenticate"));
      await first[Symbol.asyncDispose]();
      if (challenge === undefined) throw refused("asks for credentials in a way that is not known");
      authorization = await authorize(challenge, signal);
      first = await send(asked, authorization, signal);
    }
    await using response = first;
    const { status } = response;
    if (asked.absent?.includes(status) === true) return undefined;
    if (status !== 200) throw failed(status);
    if (asked.type !== undefined && mediaType(response.header("content-type")) !== asked.type) return undefined;
    const bytes = asked.method === "HEAD" ? new Uint8Array() : await bodyOf(response, asked.maxBytes, signal);
    return { bytes, header: (name) => response.header(name) };
  };

  /** Redirects of registries lead to stores of blobs: followed by hand, since nobody but the registry is told who asks. */
  const send = async (asked: Asked, auth: string | undefined, signal: AbortSignal): Promise<GuardedResponse> => {
    let url = new URL(asked.path, base);
    for (let redirects = 0; ; redirects++) {
      const own = url.origin === base.origin;
      const response = await guarded(url, {
        method: asked.method,
        headers: { accept: asked.accept, ...(own && auth !== undefined ? { authorization: auth } : {}) },
        signal,
      });
      if (![301, 302, 303, 307, 308].includes(response.status)) return response;
      const location = response.header("location");
      await response[Symbol.asyncDispose]();
      const next = location === undefined ? null : URL.parse(location, url.href);
      if (next === null || redirects >= mostRedirects) throw refused("redirects without end, or to no URL");
      if (next.protocol === "http:" && url.protocol !== "http:") throw refused("redirects from https to http");
      url = next;
    }
  };

  const guarded = async (
    url: URL,
    o: {
      readonly method: "GET" | "HEAD";
      readonly headers: Readonly<Record<string, string>>;
      readonly signal: AbortSignal;
    },
  ): Promise<GuardedResponse> => {
    const { signal, ...request } = o;
    try {
      return await options.fetch(url.href, { signal, request: { ...request, acceptsRedirect: () => true } });
    } catch (error) {
      throw translated(error);
    }
  };

  const translated = (error: unknown): unknown => {
    if (!(error instanceof OutboundError)) return error;
    return new RegistryError(
      error.reason === "Refused" ? "refused" : "unavailable",
      `registry "${registry}": ${error.message}`,
      { cause: error },
    );
  };

  const authorize = async (challenge: Challenge, signal: AbortSignal): Promise<string | undefined> => {
    const known = await credential(signal);
    if (challenge.scheme === "basic") return known === undefined ? undefined : basic(known);
    const { realm, service, scope } = challenge;
    if (realm.username !== "" || realm.password !== "" || !/^https?:$/.test(realm.protocol))
      throw refused("names a token realm that is no URL of its kind");
    const told = known !== undefined && mayReceiveCredentials(realm, base) ? known : undefined;
    if (realm.protocol !== "https:" && realm.origin !== base.origin) throw refused("names a token realm without TLS");
    const url = new URL(realm);
    if (service !== undefined) url.searchParams.set("service", service);
    url.searchParams.set("scope", scope ?? `repository:${repository}:pull`);
    const headers = { accept: "application/json", ...(told === undefined ? {} : { authorization: basic(told) }) };
    // Not a redirect: a token is for whom it was asked of.
    await using response = await guarded(url, { method: "GET", headers, signal });
    if (response.status !== 200) throw failed(response.status, "the token realm of ");
    const text = Buffer.from(await bodyOf(response, mostTokenBytes, signal)).toString("utf8");
    const answer = parsed(text);
    const token = asText(at(answer, "token")) ?? asText(at(answer, "access_token"));
    if (token === undefined || !/^[\x21-\x7e]+$/.test(token)) throw refused("has a token realm that gives no token");
    return `Bearer ${token}`;
  };

  const bodyOf = async (response: GuardedResponse, maxBytes: number, signal: AbortSignal): Promise<Uint8Array> => {
    const chunks: Uint8Array[] = [];
    let size = 0;
    try {
      for await (const chunk of response.body) {
        signal.throwIfAborted();
        size += chunk.byteLength;
        options.budget?.take(chunk.byteLength, size);
        if (size > maxBytes) throw refused(`answers with more than ${maxBytes} bytes`);
        chunks.push(chunk);
      }
    } catch (error) {
      throw translated(error);
    }
    return Buffer.concat(chunks);
  };

  const refused = (why: string): RegistryError => new RegistryError("refused", `registry "${registry}" ${why}`);

  const failed = (status: number, whose = ""): RegistryError => {
    if (status === 404) return new RegistryError("absent", `${whose}registry "${registry}" does not have it`);
    if (status === 401 || status === 403)
      return new RegistryError("unavailable", `${whose}registry "${registry}" denies access (${status})`);
    return new RegistryError("unavailable", `${whose}registry "${registry}" answers with ${status}`);
  };

  const parsed = (text: string): unknown => {
    try {
      return JSON.parse(text);
    } catch {
      // The error of the parser quotes what it read.
      throw refused("answers with something that is not JSON");
    }
  };

  const path = (rest: string): string => `/v2/${repository}/${rest}`;
  const manifestBytes = async (digest: string, signal: AbortSignal): Promise<Uint8Array> => {
    const asked: Asked = {
      method: "GET",
      path: path(`manifests/${digest}`),
      accept: manifestTypes,
      maxBytes: mostBundleManifestBytes,
    };
    return checked((await ask(asked, signal))?.bytes ?? new Uint8Array(), digest);
  };
  const checked = (bytes: Uint8Array, digest: string): Uint8Array => {
    if (digestOf(bytes) !== digest) throw refused(`answers with other content than "${digest}"`);
    return bytes;
  };

  return {
    async resolve(tag, signal) {
      const asked = { path: path(`manifests/${tag}`), accept: manifestTypes, maxBytes: mostManifestBytes } as const;
      const head = await ask({ ...asked, method: "HEAD" }, signal);
      const told = head?.header("docker-content-digest") ?? "";
      // What it says is enough: whatever it names has to be signed, and is what is pulled.
      if (isDigest(told)) return told;
      return digestOf((await ask({ ...asked, method: "GET" }, signal))?.bytes ?? new Uint8Array());
    },
    async referrers(digest, most, signal) {
      const found: Descriptor[] = [];
      const asked = { method: "GET", accept: indexType, maxBytes: mostIndexBytes } as const;
      let next: string | undefined = path(`referrers/${digest}`);
      for (let page = 0; next !== undefined && page < mostIndexPages && found.length < most; page++) {
        const answer: Answer | undefined = await ask({ ...asked, path: next, absent: noApi, type: indexType }, signal);
        if (answer === undefined && page === 0) {
          // A registry without the API: clients keep the list under a tag (OCI distribution, referrers tag schema).
          const tag = path(`manifests/${digest.replace(":", "-")}`);
          const tagged = await ask({ ...asked, path: tag, accept: manifestTypes, absent: [404] }, signal);
          return descriptorsOf(tagged === undefined ? undefined : parsed(textOf(tagged))).slice(0, most);
        }
        if (answer === undefined) break;
        found.push(...descriptorsOf(parsed(textOf(answer))));
        next = nextPage(answer.header("link"), new URL(next, base));
      }
      return found.slice(0, most);
    },
    async manifest(digest, signal) {
      return parsed(Buffer.from(await manifestBytes(digest, signal)).toString("utf8"));
    },
    async blob(digest, maxBytes, signal) {
      const answer = await ask(
        { method: "GET", path: path(`blobs/${digest}`), accept: "application/octet-stream", maxBytes },
        signal,
      );
      return checked(answer?.bytes ?? new Uint8Array(), digest);
    },
  };
}

/** Of the only algorithm that bundles are made for. */
export function isDigest(text: string): boolean {
  return /^sha256:[0-9a-f]{64}$/.test(text);
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

function mediaType(contentType = ""): string {
  return (contentType.split(";")[0] ?? "").trim().toLowerCase();
}

function textOf({ bytes }: Answer): string {
  return Buffer.from(bytes).toString("utf8");
}

function descriptorsOf(index: unknown): readonly Descriptor[] {
  const manifests: unknown = at(index, "manifests");
  if (!Array.isArray(manifests)) return [];
  return manifests.flatMap((each: unknown) => {
    const digest = asText(at(each, "digest")) ?? "";
    return isDigest(digest) ? [{ digest, artifactType: asText(at(each, "artifactType")) ?? "" }] : [];
  });
}

/** The path of the next page, on the registry itself (RFC 8288). */
function nextPage(link: string | undefined, from: URL): string | undefined {
  const target = /<([^>]*)>\s*;[^,]*\brel\s*=\s*"?next"?/i.exec(link ?? "")?.[1];
  const url = target === undefined ? null : URL.parse(target, from.href);
  return url === null || url.origin !== from.origin ? undefined : `${url.pathname}${url.search}`;
}

function basic({ username, password }: Credential): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
}
