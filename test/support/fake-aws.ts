import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { asText, at } from "../../src/lib/json.ts";

/** What came: the action of STS, or the path of EKS. */
export interface AwsRequest {
  readonly what: string;
  readonly form: URLSearchParams;
  readonly authorization: string | undefined;
}

/**
 * STS and EKS as far as a client of EKS uses them (docs.aws.amazon.com: AssumeRoleWithWebIdentity, DescribeCluster), and what
 * reviews tokens in an EKS API server, which would send the request a token holds. Signatures are not recomputed.
 */
export interface FakeAws extends AsyncDisposable {
  readonly url: string;
  readonly requests: AwsRequest[];
  /** What EKS says of every cluster. */
  readonly clusters: Map<string, { readonly endpoint: string; readonly caPem: string }>;
  /** The token with which a role may be assumed is shown to it. */
  mayAssume: (token: string, roleArn: string) => boolean;
  /** Where the tokens that were reviewed are signed for, and by which access keys. */
  readonly reviewed: { readonly region: string; readonly accessKeyId: string }[];
}

export const userOfAws = "aws-deployer";

export async function startFakeAws(): Promise<FakeAws> {
  const requests: AwsRequest[] = [];
  const clusters: FakeAws["clusters"] = new Map();
  const reviewed: { region: string; accessKeyId: string }[] = [];
  const answer = (response: ServerResponse, status: number, type: string, body: string): void => {
    response.writeHead(status, { "content-type": type });
    response.end(body);
  };
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = new URL(request.url ?? "/", "http://aws");
    const body = await text(request);
    if (url.pathname === "/review") {
      const review: unknown = JSON.parse(body);
      const user = userOf(asText(at(review, "spec", "token")) ?? "");
      if (user !== undefined) reviewed.push(user);
      const status =
        user === undefined ? { authenticated: false } : { authenticated: true, user: { username: userOfAws } };
      answer(response, 200, "application/json", JSON.stringify({ ...(review as object), status }));
      return;
    }
    const form = new URLSearchParams(body);
    const what = form.get("Action") ?? url.pathname;
    requests.push({ what, form, authorization: request.headers.authorization });
    if (what === "AssumeRoleWithWebIdentity") {
      const may = fake.mayAssume(form.get("WebIdentityToken") ?? "", form.get("RoleArn") ?? "");
      answer(response, may ? 200 : 403, "text/xml", may ? credentialsXml : "<ErrorResponse/>");
      return;
    }
    const cluster = clusters.get(url.pathname.replace("/clusters/", ""));
    const signed =
      /^AWS4-HMAC-SHA256 Credential=[^/]+\/\d{8}\/[a-z0-9-]+\/eks\/aws4_request, SignedHeaders=\S+, Signature=[0-9a-f]{64}$/;
    if (cluster === undefined || !signed.test(request.headers.authorization ?? "")) {
      answer(response, cluster === undefined ? 404 : 403, "application/json", "{}");
      return;
    }
    const certificateAuthority = { data: Buffer.from(cluster.caPem).toString("base64") };
    answer(response, 200, "application/json", JSON.stringify({ cluster: { ...cluster, certificateAuthority } }));
  };
  const server: Server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const fake: FakeAws = {
    url: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`, // It listens on a port.
    requests,
    clusters,
    reviewed,
    mayAssume: () => true,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return fake;
}

/** As aws-iam-authenticator reads a token; it would then send the request with the header it names. */
function userOf(token: string): FakeAws["reviewed"][number] | undefined {
  if (!token.startsWith("k8s-aws-v1.")) return undefined;
  const url = URL.parse(Buffer.from(token.slice("k8s-aws-v1.".length), "base64url").toString("utf8"));
  const query = url?.searchParams;
  if (query?.get("Action") !== "GetCallerIdentity" || query.get("X-Amz-SignedHeaders") !== "host;x-k8s-aws-id")
    return undefined;
  if (!/^[0-9a-f]{64}$/.test(query.get("X-Amz-Signature") ?? "") || Number(query.get("X-Amz-Expires")) > 900)
    return undefined;
  const [accessKeyId = "", , region = ""] = (query.get("X-Amz-Credential") ?? "").split("/");
  return { region, accessKeyId };
}

const credentialsXml = `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult><Credentials>
    <AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>canary-secret-key</SecretAccessKey>
    <SessionToken>canary-session</SessionToken><Expiration>2030-01-01T00:00:00Z</Expiration>
  </Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>`;
