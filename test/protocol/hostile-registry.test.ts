import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { afterEach, describe, expect, test } from "vitest";
import { openRepository, type Credential, type Repository } from "../../src/images/registry-client.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { createGuardedFetch } from "../../src/outbound/guard.ts";

const { signal } = new AbortController();
const secret: Credential = { username: "robot", password: "hunter2-secret" };
const digestOf = (text: string): string => `sha256:${createHash("sha256").update(text).digest("hex")}`;
const asked = digestOf("asked for");

interface Server extends AsyncDisposable {
  readonly host: string;
  readonly seen: { readonly path: string; readonly authorization: string | undefined }[];
}
const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server[Symbol.asyncDispose]();
});

type Answer = (request: IncomingMessage, response: ServerResponse, host: string) => void;

async function serve(answer: Answer): Promise<Server> {
  const seen: Server["seen"] = [];
  const server = createServer((request, response) => {
    seen.push({ path: request.url ?? "", authorization: request.headers.authorization });
    answer(request, response, host);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const host = `127.0.0.1:${String(typeof address === "object" ? address?.port : 0)}`;
  const made = {
    host,
    seen,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  servers.push(made);
  return made;
}

function repositoryAt(host: string, credential: Credential | undefined = secret): Repository {
  return openRepository(
    { registry: host, repository: "team/app" },
    { fetch: createGuardedFetch({ allowLoopback: true, clock: systemClock }), isInsecure: () => true },
    () => Promise.resolve(credential),
  );
}

const redirect =
  (to: (host: string, path: string) => string): Answer =>
  (request, response, host) => {
    response.writeHead(307, { location: to(host, request.url ?? "") });
    response.end();
  };

/** Lets in who has a token, and then does what it is told to. */
const protectedBy =
  (then: Answer, realm = (host: string) => `http://${host}/token`): Answer =>
  (request, response, host) => {
    if (request.url?.startsWith("/token") === true) {
      response.end(JSON.stringify({ token: "token-of-the-registry" }));
    } else if (request.headers.authorization === undefined) {
      response.writeHead(401, { "www-authenticate": `Bearer realm="${realm(host)}",service="x"` });
      response.end();
    } else then(request, response, host);
  };

/** The error, with everything it says. */
async function failureOf(work: Promise<unknown>): Promise<{ readonly reason: string; readonly text: string }> {
  const error: unknown = await work.then(
    () => undefined,
    (why: unknown) => why,
  );
  if (!(error instanceof Error) || !("reason" in error)) throw new Error(`no failure of a registry: ${String(error)}`);
  expect(error.message).not.toContain("hunter2");
  expect(error.message).not.toContain("token-of");
  return { reason: String(error.reason), text: error.message };
}

describe("registries that mean no good", () => {
  test("an endless answer is cut off", async () => {
    const server = await serve((_request, response) => {
      const more = (): void => {
        while (response.write(Buffer.alloc(64 * 1024)));
      };
      response.on("drain", more);
      more();
    });
    const { reason, text } = await failureOf(repositoryAt(server.host).blob(asked, 1024 * 1024, signal));
    expect([reason, text]).toEqual(["refused", expect.stringContaining("more than 1048576 bytes")]);
  });

  test("redirects have an end", async () => {
    const server = await serve(redirect((host, path) => `http://${host}${path}`));
    const { reason } = await failureOf(repositoryAt(server.host).manifest(asked, signal));
    expect(reason).toBe("refused");
    expect(server.seen).toHaveLength(6);
  });

  test("who asks is not told to where a blob is redirected", async () => {
    const store = await serve((_request, response) => response.end("asked for"));
    const server = await serve(protectedBy(redirect(() => `http://${store.host}/blob`)));
    const bytes = await repositoryAt(server.host).blob(asked, 100, signal);
    expect(Buffer.from(bytes).toString()).toBe("asked for");
    expect(store.seen).toEqual([{ path: "/blob", authorization: undefined }]);
    expect(server.seen.at(-1)?.authorization).toBe("Bearer token-of-the-registry");
  });

  test("a realm in the clear on another origin is not asked, and told nothing", async () => {
    const other = await serve((_request, response) => response.end(JSON.stringify({ token: "x" })));
    const server = await serve(
      protectedBy(
        (_request, response) => response.end(),
        () => `http://${other.host}/token`,
      ),
    );
    const { reason, text } = await failureOf(repositoryAt(server.host).manifest(asked, signal));
    expect([reason, text]).toEqual(["refused", expect.stringContaining("token realm")]);
    expect(other.seen).toEqual([]);
  });

  test.each([
    ["asks again and again", 401, { "www-authenticate": "Basic" }, "unavailable"],
    ["asks for something unknown", 401, { "www-authenticate": "Negotiate" }, "refused"],
    ["denies", 403, {}, "unavailable"],
    ["is overrun", 429, {}, "unavailable"],
    ["is broken", 500, {}, "unavailable"],
    ["has nothing", 404, {}, "absent"],
    ["answers oddly", 204, {}, "unavailable"],
  ] as const)("one that %s: %i is told", async (_what, status, headers, reason) => {
    const server = await serve((_request, response) => {
      response.writeHead(status, headers);
      response.end();
    });
    expect((await failureOf(repositoryAt(server.host).manifest(asked, signal))).reason).toBe(reason);
    expect(server.seen.length).toBeLessThanOrEqual(2);
  });

  test("other content than the digest, no JSON, and a token that is none", async () => {
    const swapped = await serve((_request, response) => response.end("{}"));
    expect((await failureOf(repositoryAt(swapped.host).manifest(asked, signal))).text).toContain("other content");
    const text = "token-of {";
    const broken = await serve((_request, response) => response.end(text));
    const { text: told } = await failureOf(repositoryAt(broken.host).manifest(digestOf(text), signal));
    expect(told).toContain("not JSON");
    const tokenless = await serve((request, response) => {
      if (request.url?.startsWith("/token") === true) response.end(JSON.stringify({ token: "a\r\nb" }));
      else {
        response.writeHead(401, { "www-authenticate": `Bearer realm="http://${request.headers.host ?? ""}/token"` });
        response.end();
      }
    });
    expect((await failureOf(repositoryAt(tokenless.host).manifest(asked, signal))).text).toContain("gives no token");
  });

  test("referrers: pages on other hosts are not followed, what is none is left out, and there is a bound", async () => {
    const other = await serve((_request, response) => response.end("{}"));
    const descriptors = Array.from({ length: 600 }, (_, index) => ({ digest: digestOf(String(index)) }));
    const server = await serve((request, response) => {
      response.writeHead(200, {
        "content-type": "application/vnd.oci.image.index.v1+json; charset=utf-8",
        link: `<${request.url?.includes("page") === true ? `http://${other.host}/` : `${request.url ?? ""}?page=2`}>; rel="next"`,
      });
      response.end(JSON.stringify({ manifests: [7, { digest: "sha256:short" }, ...descriptors] }));
    });
    const found = await repositoryAt(server.host).referrers(asked, 1_000, signal);
    expect(found).toHaveLength(1_000);
    expect(other.seen).toEqual([]);
    expect(server.seen).toHaveLength(2);
    const bounded = await repositoryAt(server.host).referrers(asked, 10, signal);
    expect(bounded).toHaveLength(10);
  });

  test.each([
    [400, "application/json"],
    [404, "text/plain"],
    [405, "text/plain"],
    [406, "text/plain"],
    [501, "text/plain"],
    [200, "text/html"],
    [200, undefined],
  ])(
    "one without the API of referrers, which answers %i of type %s: they are read under the tag",
    async (status, type) => {
      const server = await serve((request, response) => {
        if (request.url?.includes("/referrers/") === true) {
          response.writeHead(status, type === undefined ? {} : { "content-type": type });
          response.end("<html>");
        } else response.end(JSON.stringify({ manifests: [{ digest: asked }] }));
      });
      expect(await repositoryAt(server.host).referrers(asked, 10, signal)).toEqual([
        { digest: asked, artifactType: "" },
      ]);
      expect(server.seen.at(-1)?.path).toBe(`/v2/team/app/manifests/${asked.replace(":", "-")}`);
    },
  );

  test("what is read as JSON is small", async () => {
    const server = await serve((_request, response) => {
      response.writeHead(200, { "content-type": "application/vnd.oci.image.index.v1+json" });
      response.end(Buffer.alloc(600 * 1024, " "));
    });
    const repository = repositoryAt(server.host);
    expect((await failureOf(repository.manifest(asked, signal))).text).toContain("more than 65536 bytes");
    expect((await failureOf(repository.referrers(asked, 10, signal))).text).toContain("more than 524288 bytes");
  });

  test("link-local addresses are not asked, whoever names them", async () => {
    const server = await serve(redirect(() => "http://169.254.169.254/latest"));
    for (const host of [server.host, "169.254.169.254"])
      expect((await failureOf(repositoryAt(host).manifest(asked, signal))).reason).toBe("refused");
  });
});
