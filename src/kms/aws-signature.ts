import { createHash, createHmac } from "node:crypto";

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | undefined;
}

/**
 * The headers of a POST to AWS, signed with Signature Version 4
 * (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html). `now`: epoch ms.
 */
export function signedHeaders(
  {
    url,
    headers,
    body,
  }: { readonly url: string; readonly headers: Readonly<Record<string, string>>; readonly body: string },
  o: {
    readonly credentials: AwsCredentials;
    readonly region: string;
    readonly service: string;
    readonly now: number;
  },
): Readonly<Record<string, string>> {
  const { host, pathname, search } = new URL(url);
  const time = new Date(o.now).toISOString().replace(/[-:]|\.\d{3}/g, "");
  const date = time.slice(0, 8);
  const { accessKeyId, secretAccessKey, sessionToken } = o.credentials;
  const signed: Readonly<Record<string, string>> = {
    ...headers,
    host,
    "x-amz-date": time,
    ...(sessionToken === undefined ? {} : { "x-amz-security-token": sessionToken }),
  };
  const names = Object.keys(signed).sort();
  const canonical = [
    "POST",
    pathname,
    search.slice(1),
    ...names.map((name) => `${name}:${(signed[name] ?? "").trim()}`),
    "",
    names.join(";"),
    sha256(body),
  ].join("\n");
  const scope = `${date}/${o.region}/${o.service}/aws4_request`;
  const key = [o.region, o.service, "aws4_request"].reduce(hmac, hmac(Buffer.from(`AWS4${secretAccessKey}`), date));
  const signature = hmac(key, ["AWS4-HMAC-SHA256", time, scope, sha256(canonical)].join("\n")).toString("hex");
  return {
    ...signed,
    authorization: `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope}, SignedHeaders=${names.join(";")}, Signature=${signature}`,
  };
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}
