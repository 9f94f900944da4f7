import { createHash, createHmac, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";
import { networkInterfaces } from "node:os";
import { asText, at } from "../../src/lib/json.ts";

/** What a fake of a cloud was asked. */
export interface KmsCall {
  readonly service: "sts" | "kms" | "vault";
  readonly action: string;
  /** The access key id, or the token. */
  readonly caller: string;
  /** The key, or the role, that was asked for. */
  readonly of: string;
  readonly status: number;
}

export interface KmsServer extends AsyncDisposable {
  /** Of an address of this machine that is not loopback: loopback is never a KMS. */
  readonly url: string;
  readonly calls: readonly KmsCall[];
  /** AWS: who holds a key, and what they may do. */
  grant(accessKeyId: string, o: { readonly secret: string; readonly keys: readonly string[] }): void;
  /** AWS: a role, whose holder STS gives to whoever `trusts` accepts the token of. */
  role(
    arn: string,
    o: { readonly keys: readonly string[]; readonly trusts: (token: string) => Promise<boolean> },
  ): void;
  /** Vault: this token may use its transit engine. */
  admit(token: string): void;
  /** Answers every call with this status from now on, or `never` at all (its status is 0 then); undefined: as usual. */
  fail(status: number | "never" | undefined): void;
}

/** STS and KMS of AWS, as their SDKs ask them (signatures are checked), and the transit engine of Vault. */
export async function startKmsServer(): Promise<KmsServer> {
  const host = outsideAddress();
  const calls: KmsCall[] = [];
  const holders = new Map<string, { secret: string; keys: readonly string[]; session?: string }>();
  const roles = new Map<string, Parameters<KmsServer["role"]>[1]>();
  const tokens = new Set<string>();
  const blobs = new Map<string, { readonly key: string; readonly plaintext: string }>();
  let failing: number | "never" | undefined;

  interface Answer {
    readonly status: number;
    readonly body: string;
  }
  const denied: Answer = { status: 400, body: JSON.stringify({ __type: "AccessDeniedException" }) };
  const seal = (key: string, plaintext: string): string => {
    const blob = randomBytes(48).toString("base64");
    blobs.set(blob, { key, plaintext });
    return blob;
  };

  const answerKms = (request: IncomingMessage, body: string): Answer => {
    const caller = callerOf(request);
    const holder = holders.get(caller);
    if (holder === undefined || !isSigned(request, body, holder)) return denied;
    const input: unknown = JSON.parse(body);
    const [key, action] = [asText(at(input, "KeyId")) ?? "", String(request.headers["x-amz-target"])];
    if (!holder.keys.includes(key)) return denied;
    if (action === "TrentService.Encrypt") {
      const CiphertextBlob = seal(key, asText(at(input, "Plaintext")) ?? "");
      return { status: 200, body: JSON.stringify({ CiphertextBlob, KeyId: key }) };
    }
    const blob = blobs.get(asText(at(input, "CiphertextBlob")) ?? "");
    if (blob?.key !== key) return denied;
    return { status: 200, body: JSON.stringify({ Plaintext: blob.plaintext, KeyId: key }) };
  };

  const answerSts = async (body: string): Promise<Answer> => {
    const parameters = new URLSearchParams(body);
    const role = roles.get(parameters.get("RoleArn") ?? "");
    const known =
      parameters.get("Action") === "AssumeRoleWithWebIdentity" && parameters.get("Version") === "2011-06-15";
    if (!known || role === undefined || !(await role.trusts(parameters.get("WebIdentityToken") ?? "")))
      return { status: 403, body: "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>" };
    const id = `ASIA${randomBytes(8).toString("hex").toUpperCase()}`;
    const [secret, session] = [randomBytes(30).toString("base64"), randomBytes(60).toString("base64")];
    holders.set(id, { secret, keys: role.keys, session });
    const credentials = `<Credentials><AccessKeyId>${id}</AccessKeyId><SecretAccessKey>${secret}</SecretAccessKey><SessionToken>${session}</SessionToken></Credentials>`;
    return {
      status: 200,
      body: `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult>${credentials}</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
    };
  };

  const answerVault = (request: IncomingMessage, body: string): Answer => {
    const [, action = "", key = ""] = /^\/v1\/transit\/(\w+)\/(\w+)$/.exec(request.url ?? "") ?? [];
    if (!tokens.has(String(request.headers["x-vault-token"])))
      return { status: 403, body: '{"errors":["permission denied"]}' };
    const input: unknown = body === "" ? {} : JSON.parse(body);
    if (action === "keys") return { status: 204, body: "" };
    if (action === "encrypt")
      return {
        status: 200,
        body: JSON.stringify({ data: { ciphertext: `vault:v1:${seal(key, asText(at(input, "plaintext")) ?? "")}` } }),
      };
    const blob = blobs.get((asText(at(input, "ciphertext")) ?? "").replace("vault:v1:", ""));
    if (blob?.key !== key) return { status: 400, body: '{"errors":["invalid ciphertext"]}' };
    return { status: 200, body: JSON.stringify({ data: { plaintext: blob.plaintext } }) };
  };

  const server = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8");
    request.on("data", (chunk: string) => (body += chunk));
    request.on("end", () => {
      const path = request.url ?? "";
      const service = path.startsWith("/v1/") ? "vault" : request.headers["x-amz-target"] === undefined ? "sts" : "kms";
      const caller = service === "vault" ? String(request.headers["x-vault-token"]) : callerOf(request);
      const action =
        service === "vault" ? path : String(request.headers["x-amz-target"] ?? new URLSearchParams(body).get("Action"));
      if (failing === "never") {
        calls.push({ service, action, caller, of: targetOf(service, path, body), status: 0 });
        return;
      }
      const answering =
        failing !== undefined
          ? Promise.resolve({ status: failing, body: "{}" })
          : service === "sts"
            ? answerSts(body)
            : Promise.resolve(service === "kms" ? answerKms(request, body) : answerVault(request, body));
      answering.then(
        ({ status, body: text }) => {
          calls.push({ service, action, caller, of: targetOf(service, path, body), status });
          response.writeHead(status, { "content-type": "application/json" }).end(text);
        },
        () => response.writeHead(500).end(),
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server has no port");
  return {
    url: `http://${host}:${address.port}`,
    calls,
    grant: (id, { secret, keys }) => void holders.set(id, { secret, keys }),
    role: (arn, role) => void roles.set(arn, role),
    admit: (token) => void tokens.add(token),
    fail: (status) => (failing = status),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function outsideAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  const found = all.find(
    ({ internal, family, address }) => !internal && family === "IPv4" && !address.startsWith("169.254."),
  );
  if (found === undefined) throw new Error("this machine has no IPv4 address but loopback, and loopback is no KMS");
  return found.address;
}

function targetOf(service: KmsCall["service"], path: string, body: string): string {
  if (service === "vault") return path.slice(path.lastIndexOf("/") + 1);
  if (service === "sts") return new URLSearchParams(body).get("RoleArn") ?? "";
  return asText(at(JSON.parse(body), "KeyId")) ?? "";
}

function callerOf(request: IncomingMessage): string {
  return /Credential=([^/]+)\//.exec(request.headers.authorization ?? "")?.[1] ?? "";
}

/** Signature Version 4, over the headers that the caller names. */
function isSigned(
  request: IncomingMessage,
  body: string,
  { secret, session }: { readonly secret: string; readonly session?: string },
): boolean {
  const form =
    /^AWS4-HMAC-SHA256 Credential=[^/]+\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/;
  const match = form.exec(request.headers.authorization ?? "");
  if (match === null || (session !== undefined && request.headers["x-amz-security-token"] !== session)) return false;
  const [, date = "", region = "", service = "", names = "", signature = ""] = match;
  if (service !== "kms" || !names.split(";").includes("host")) return false;
  const headers = names
    .split(";")
    .map((name) => `${name}:${String(request.headers[name]).trim().replace(/ +/g, " ")}\n`);
  const hex = (text: string): string => createHash("sha256").update(text, "utf8").digest("hex");
  const canonical = `POST\n${request.url ?? ""}\n\n${headers.join("")}\n${names}\n${hex(body)}`;
  const scope = `${date}/${region}/${service}/aws4_request`;
  let key: Buffer = Buffer.from(`AWS4${secret}`);
  for (const part of [date, region, service, "aws4_request"]) key = createHmac("sha256", key).update(part).digest();
  const text = `AWS4-HMAC-SHA256\n${String(request.headers["x-amz-date"])}\n${scope}\n${hex(canonical)}`;
  return createHmac("sha256", key).update(text).digest("hex") === signature;
}
