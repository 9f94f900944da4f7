import { createPrivateKey, X509Certificate, type KeyObject } from "node:crypto";
import type { ClientCertificate, Impersonation } from "../../kube/credential.ts";
import { isCostly, mostModulusBits } from "../../outbound/costly-key.ts";
import { asArray, asObject, asText, at } from "../../lib/json.ts";
import { checkedUrl, isHostName, isPrintable, type RemoteCluster } from "./remote-cluster.ts";

type Entry = Readonly<Record<string, unknown>>;

export interface KubeConfigRules {
  /** `--insecure-kubeconfig-tls`. */
  readonly insecureTls: boolean;
  /** Makes the error from a problem that names the field. */
  readonly fail: (problem: string) => Error;
}

/** Fields that would make the controller run a program or read a file of its own, and what to do instead. */
const refusedOfUser: Readonly<Record<string, string>> = {
  exec: "is refused, since it would run a program in the controller: use spec.kubeConfig.configMapRef for the identities of clouds",
  "auth-provider":
    "is refused, since it would run a login in the controller: use spec.kubeConfig.configMapRef for the identities of clouds",
  tokenFile: "is refused, since it would read a file of the controller: put the token in token",
  "client-certificate":
    "is refused, since it would read a file of the controller: put the content in client-certificate-data",
  "client-key": "is refused, since it would read a file of the controller: put the content in client-key-data",
};

/**
 * The cluster and credential of the current context of a parsed kubeconfig, and nothing else of it (spec 50 §2.1).
 *
 * @throws what `fail` makes
 */
export function readKubeConfig(config: unknown, { insecureTls, fail }: KubeConfigRules): RemoteCluster {
  const file = asObject(config);
  if (file === undefined) throw fail("is no mapping: give a kubeconfig with clusters, users and contexts");
  const current = asText(file["current-context"]);
  if (current === undefined) throw fail("current-context is missing: name the context to use");
  const context = named(file, { list: "contexts", field: "context", name: current });
  if (context === undefined) throw fail("current-context names a context that contexts does not have");
  const cluster = named(file, { list: "clusters", field: "cluster", name: asText(context["cluster"]) });
  if (cluster === undefined) throw fail("the cluster of the current context is missing from clusters");
  const userName = asText(context["user"]);
  const user = userName === undefined ? {} : named(file, { list: "users", field: "user", name: userName });
  if (user === undefined) throw fail("the user of the current context is missing from users");
  return { ...readCluster(cluster, { insecureTls, fail }), ...readUser(user, fail) };
}

function named(
  file: Entry,
  of: { readonly list: string; readonly field: string; readonly name: string | undefined },
): Entry | undefined {
  if (of.name === undefined) return undefined;
  const item = asArray(file[of.list]).find((each) => at(each, "name") === of.name);
  return item === undefined ? undefined : (asObject(at(item, of.field)) ?? {});
}

type ClusterPart = Pick<RemoteCluster, "server" | "caPem" | "tlsServerName" | "insecureSkipTlsVerify" | "proxy">;

function readCluster(cluster: Entry, { insecureTls, fail }: KubeConfigRules): ClusterPart {
  const failAt = (field: string) => (problem: string) => fail(`clusters[].cluster.${field} ${problem}`);
  if (isGiven(cluster["certificate-authority"]))
    throw failAt("certificate-authority")(
      "is refused, since it would read a file of the controller: put the content in certificate-authority-data",
    );
  const insecure = cluster["insecure-skip-tls-verify"];
  if (isGiven(insecure) && insecure !== false && insecure !== true)
    throw failAt("insecure-skip-tls-verify")("is no boolean: give true or false");
  if (insecure === true && !insecureTls)
    throw failAt("insecure-skip-tls-verify")(
      "is true, which needs --insecure-kubeconfig-tls: give certificate-authority-data instead",
    );
  const server = text(cluster, "server", failAt);
  if (server === undefined) throw failAt("server")("is missing: give the https URL of the API server");
  const authority = text(cluster, "certificate-authority-data", failAt);
  const tlsServerName = text(cluster, "tls-server-name", failAt);
  if (tlsServerName !== undefined && !isHostName(tlsServerName))
    throw failAt("tls-server-name")("is no host name: give the name the server's certificate is for");
  const proxy = text(cluster, "proxy-url", failAt);
  return {
    server: checkedUrl(server, { schemes: ["https"], fail: failAt("server") }),
    caPem: authority === undefined ? undefined : certificates(authority, failAt("certificate-authority-data")),
    tlsServerName,
    insecureSkipTlsVerify: insecure === true,
    proxy:
      proxy === undefined ? undefined : checkedUrl(proxy, { schemes: ["http", "https"], fail: failAt("proxy-url") }),
  };
}

function readUser(user: Entry, fail: KubeConfigRules["fail"]): Omit<RemoteCluster, keyof ClusterPart> {
  const failAt = (field: string) => (problem: string) => fail(`users[].user.${field} ${problem}`);
  for (const [field, why] of Object.entries(refusedOfUser)) if (isGiven(user[field])) throw failAt(field)(why);
  const header = authorizationOf(user, failAt);
  return {
    certificate: certificateOf(user, failAt),
    authorization: header === undefined ? undefined : () => Promise.resolve(header),
    actsAs: actsAsOf(user, failAt),
  };
}

type FailAt = (field: string) => (problem: string) => Error;

/** A token goes before a password, as in every client. */
function authorizationOf(user: Entry, failAt: FailAt): string | undefined {
  const token = text(user, "token", failAt);
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token))
    throw failAt("token")("holds a blank or a character that no token has: give the token alone");
  const username = text(user, "username", failAt);
  const password = text(user, "password", failAt) ?? "";
  if (token !== undefined) return `Bearer ${token}`;
  if (username === undefined) return undefined;
  if (username.includes(":")) throw failAt("username")("holds a colon, which basic authentication cannot carry");
  return `Basic ${Buffer.from(`${username}:${password}`, "utf8").toString("base64")}`;
}

function certificateOf(user: Entry, failAt: FailAt): ClientCertificate | undefined {
  const cert = text(user, "client-certificate-data", failAt);
  const key = text(user, "client-key-data", failAt);
  if (cert === undefined && key === undefined) return undefined;
  if (cert === undefined)
    throw failAt("client-certificate-data")("is missing, but client-key-data is there: give both");
  if (key === undefined) throw failAt("client-key-data")("is missing, but client-certificate-data is there: give both");
  for (const [field, data] of Object.entries({ "client-certificate-data": cert, "client-key-data": key }))
    if (data.length > mostCredentialChars)
      throw failAt(field)("is larger than 64 KiB of PEM: give the certificate with its chain, or the key, alone");
  const certPem = certificates(cert, failAt("client-certificate-data"));
  const keyPem = decoded(key, failAt("client-key-data"));
  const notItsKey = failAt("client-key-data")(
    "is not the unencrypted PEM key of client-certificate-data: give that key",
  );
  let certificate: X509Certificate;
  let privateKey: KeyObject;
  let costly: string | undefined;
  try {
    certificate = new X509Certificate(certPem);
    privateKey = createPrivateKey(keyPem);
    if (isCostly(privateKey)) costly = "client-key-data";
    else if (isCostly(certificate.publicKey)) costly = "client-certificate-data";
  } catch {
    throw notItsKey;
  }
  if (costly !== undefined)
    throw failAt(costly)(`has a key of more than ${mostModulusBits} bits: give one of 2048 to 4096 bits, or of ECDSA`);
  if (!certificate.checkPrivateKey(privateKey)) throw notItsKey;
  return { certPem, keyPem };
}

/** 64 KiB of PEM, in base64. */
const mostCredentialChars = Math.ceil((64 * 1024) / 3) * 4;

function actsAsOf(user: Entry, failAt: FailAt): Impersonation | undefined {
  const as = header(user, "as", failAt);
  const uid = header(user, "as-uid", failAt);
  const groups = headers(user["as-groups"], failAt("as-groups"));
  const given = user["as-user-extra"];
  if (isGiven(given) && asObject(given) === undefined) throw failAt("as-user-extra")("is no mapping of lists of texts");
  const extra = Object.entries(asObject(given) ?? {}).map(
    ([key, values]) => [key, headers(values, failAt("as-user-extra"))] as const,
  );
  if (as === undefined) {
    if (uid !== undefined || groups.length > 0 || extra.length > 0)
      throw failAt("as")("is missing, but other fields of it are there: name the user to act as");
    return undefined;
  }
  return { user: as, ...(uid === undefined ? {} : { uid }), groups, extra: Object.fromEntries(extra) };
}

function header(user: Entry, field: string, failAt: FailAt): string | undefined {
  const value = text(user, field, failAt);
  if (value !== undefined && !isPrintable(value)) throw failAt(field)("holds a character that no header can carry");
  return value;
}

function headers(list: unknown, fail: (problem: string) => Error): readonly string[] {
  if (!isGiven(list)) return [];
  return asArray(Array.isArray(list) ? list : [list]).map((item) => {
    if (typeof item !== "string" || !isPrintable(item)) throw fail("holds something that is no printable text");
    return item;
  });
}

function text(entry: Entry, field: string, failAt: FailAt): string | undefined {
  const value = entry[field];
  if (!isGiven(value)) return undefined;
  if (typeof value !== "string") throw failAt(field)("is no text: put it in quotes");
  return value;
}

/** Kubernetes' clients take an empty text for an absent one. */
function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null && value !== "";
}

function decoded(base64: string, fail: (problem: string) => Error): string {
  if (!/^[A-Za-z0-9+/=\s]+$/.test(base64)) throw fail("is no base64: encode the PEM text");
  return Buffer.from(base64, "base64").toString("utf8");
}

/** PEM of one certificate or more. */
function certificates(base64: string, fail: (problem: string) => Error): string {
  return checkedCertificates(decoded(base64, fail), fail);
}

/** @throws what `fail` makes, when the text is not PEM of one certificate or more */
export function checkedCertificates(pem: string, fail: (problem: string) => Error): string {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0)
    throw fail("holds no PEM certificate: give one that starts with -----BEGIN CERTIFICATE-----");
  try {
    for (const block of blocks) new X509Certificate(block);
  } catch {
    throw fail("holds a PEM certificate that cannot be read");
  }
  return pem;
}
