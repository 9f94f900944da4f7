import { createHash, createHmac } from "node:crypto";

/** Credentials of AWS. Never shown. */
export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | undefined;
}

/**
 * What a signature is for (Signature Version 4,
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
 */
export interface AwsScope {
  readonly region: string;
  readonly service: string;
  /** Epoch milliseconds. */
  readonly now: number;
}

const algorithm = "AWS4-HMAC-SHA256";

/** What is signed beside the URL: a POST when there is a body, else a GET. */
interface SignedParts {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** The headers to send, signed, `host` not among them. */
export function signedHeaders(
  url: URL,
  credentials: AwsCredentials,
  o: AwsScope & SignedParts,
): Readonly<Record<string, string>> {
  const headers = {
    ...o.headers,
    host: url.host,
    "x-amz-date": timestamp(o.now),
    ...(credentials.sessionToken === undefined ? {} : { "x-amz-security-token": credentials.sessionToken }),
  };
  const { signature, names, path } = sign({ url, headers, body: o.body, credentials, scope: o });
  const { host: _host, ...sent } = headers;
  return {
    ...sent,
    authorization: `${algorithm} Credential=${credentials.accessKeyId}/${path}, SignedHeaders=${names}, Signature=${signature}`,
  };
}

/** The URL with a signature in its query, for whoever sends these headers with a GET within `expiresSeconds`. */
export function presignedUrl(
  url: URL,
  credentials: AwsCredentials,
  o: AwsScope & { readonly headers: Readonly<Record<string, string>>; readonly expiresSeconds: number },
): string {
  const headers = { host: url.host, ...o.headers };
  const signed = new URL(url);
  const query = {
    "X-Amz-Algorithm": algorithm,
    "X-Amz-Credential": `${credentials.accessKeyId}/${scopePath(o)}`,
    "X-Amz-Date": timestamp(o.now),
    "X-Amz-Expires": String(o.expiresSeconds),
    "X-Amz-SignedHeaders": Object.keys(headers).sort().join(";"),
    ...(credentials.sessionToken === undefined ? {} : { "X-Amz-Security-Token": credentials.sessionToken }),
  };
  for (const [name, value] of Object.entries(query)) signed.searchParams.set(name, value);
  const { signature } = sign({ url: signed, headers, body: undefined, credentials, scope: o });
  return `${signed.origin}${signed.pathname}?${canonicalQuery(signed)}&X-Amz-Signature=${signature}`;
}

function sign(o: {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
  readonly credentials: AwsCredentials;
  readonly scope: AwsScope;
}): { readonly signature: string; readonly names: string; readonly path: string } {
  const { url, headers, body, credentials, scope } = o;
  const sorted = Object.entries(headers).sort(([a], [b]) => (a < b ? -1 : 1));
  const names = sorted.map(([name]) => name).join(";");
  const lines = sorted.map(([name, value]) => `${name}:${value.trim()}\n`).join("");
  const method = body === undefined ? "GET" : "POST";
  const request = [method, url.pathname, canonicalQuery(url), lines, names, hash(body ?? "")].join("\n");
  const path = scopePath(scope);
  const text = [algorithm, timestamp(scope.now), path, hash(request)].join("\n");
  const key = ["aws4_request", scope.service, scope.region, timestamp(scope.now).slice(0, 8)].reduceRight<
    Buffer | string
  >((secret, part) => createHmac("sha256", secret).update(part).digest(), `AWS4${credentials.secretAccessKey}`);
  return { signature: createHmac("sha256", key).update(text).digest("hex"), names, path };
}

function canonicalQuery(url: URL): string {
  return [...url.searchParams]
    .map(([name, value]) => `${encoded(name)}=${encoded(value)}`)
    .sort()
    .join("&");
}

/** RFC 3986: what `encodeURIComponent` leaves alone beyond the unreserved characters is escaped, too. */
function encoded(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function scopePath({ region, service, now }: AwsScope): string {
  return `${timestamp(now).slice(0, 8)}/${region}/${service}/aws4_request`;
}

/** `20150830T123600Z`. */
function timestamp(now: number): string {
  return new Date(now).toISOString().replace(/[-:]|\.\d+/g, "");
}

function hash(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
