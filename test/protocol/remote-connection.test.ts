import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createConnection } from "../../src/identity/remote/connection.ts";
import { IdentityError } from "../../src/identity/identity-error.ts";
import type { RemoteCluster } from "../../src/identity/remote/remote-cluster.ts";
import { renewingAccess } from "../../src/identity/remote/renewing-access.ts";
import { isKubeError } from "../../src/kube/error.ts";
import { createTransports, type Transports } from "../../src/kube/transport.ts";
import { createManualClock, type ManualClock } from "../../src/lib/clock.ts";
import { eventually } from "../support/eventually.ts";

/** What a scripted server does with a request. */
type Script = (answer: ServerResponse, token: string | undefined) => void;

const hang: Script = () => undefined;
const ok: Script = (answer) => {
  answer.setHeader("content-type", "application/json");
  answer.end("{}");
};
const only =
  (wanted: string): Script =>
  (answer, token) => {
    if (token === `Bearer ${wanted}`) {
      ok(answer, token);
      return;
    }
    answer.writeHead(401, { "content-type": "application/json" });
    answer.end(JSON.stringify({ kind: "Status", message: "Unauthorized", code: 401 }));
  };

let script: Script;
let server: Server;
let sockets: Set<Socket>;
let requests: number;
let clock: ManualClock;
let transports: Transports;
beforeEach(async () => {
  script = ok;
  requests = 0;
  sockets = new Set();
  clock = createManualClock();
  transports = createTransports({ clock });
  server = createServer((request, answer) => {
    requests++;
    script(answer, request.headers.authorization);
  });
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
});
afterEach(async () => {
  await transports[Symbol.asyncDispose]();
  server.closeAllConnections();
  server.close();
});

let isolation = 0;
/** Plain HTTP, which no kubeconfig may ask for: what is looked at here is the same. */
function connect(token = "t") {
  const { port } = server.address() as AddressInfo; // It listens on a port.
  const url = new URL(`http://127.0.0.1:${port}`);
  const cluster: RemoteCluster = {
    server: url,
    caPem: undefined,
    tlsServerName: undefined,
    insecureSkipTlsVerify: false,
    proxy: undefined,
    certificate: undefined,
    authorization: () => Promise.resolve(`Bearer ${token}`),
    actsAs: undefined,
  };
  const endpoint = { key: "remote", server: url.href, isolation: String(++isolation) };
  return createConnection({ cluster, endpoint, actsAs: undefined, identity: "x" }, { transports, clock });
}
const get = { method: "GET", path: "/api/v1/configmaps" } as const;

describe("a remote server that never answers", () => {
  test("[50.18] fails the request after 30 s, the others at once for a while, and is tried again then", async () => {
    script = hang;
    const connection = connect();
    const waiting = [1, 2, 3].map(() => connection.send(get).catch((error: unknown) => error));
    await eventually(() => requests === 3);
    clock.advance(29_000);
    const early = await Promise.race([waiting[0], Promise.resolve("waiting")]);
    expect(early).toBe("waiting");
    clock.advance(1_000);
    for (const error of await Promise.all(waiting)) {
      expect(isKubeError(error, "Timeout")).toBe(true);
      expect(String(error)).toContain(`target cluster unreachable: "${connection.host}"`);
    }
    await expect(connection.send(get)).rejects.toThrow("did not answer just now");
    expect(requests).toBe(3);
    script = ok;
    clock.advance(10_000);
    await expect(connection.send(get)).resolves.toEqual({});
    await expect(connection.send(get)).resolves.toEqual({});
    connection.retire();
  });

  test("an answer that does not end is given up after 60 s", async () => {
    script = (answer) => {
      answer.setHeader("content-type", "application/json");
      answer.write("{");
    };
    const connection = connect();
    const head = Promise.withResolvers<unknown>();
    const waiting = connection.send(get, { onAnswer: head.resolve }).catch((error: unknown) => error);
    await head.promise;
    clock.advance(45_000);
    const early = await Promise.race([waiting, Promise.resolve("waiting")]);
    expect(early).toBe("waiting");
    clock.advance(15_000);
    expect(isKubeError(await waiting, "Timeout")).toBe(true);
    connection.retire();
  });
});

describe("sockets of a remote connection", () => {
  test("[50.17] are its own, and a retired one closes them after its last use", async () => {
    const [first, second] = [connect(), connect()];
    await first.send(get);
    await second.send(get);
    expect(sockets.size).toBe(2);
    script = hang;
    const late = first.send(get).catch((error: unknown) => error);
    await eventually(() => requests === 3);
    first.retire();
    expect(first.isOpen).toBe(true);
    clock.advance(30_000);
    await late;
    expect(first.isOpen).toBe(false);
    await eventually(() => sockets.size === 1);
    script = ok;
    clock.advance(10_000);
    // Whoever still holds it is served, over new ones that close at once.
    await expect(first.send(get)).resolves.toEqual({});
    expect(first.isOpen).toBe(false);
    await eventually(() => sockets.size === 1);
    second.retire();
    await eventually(() => sockets.size === 0);
  });
});

describe("a credential that is refused", () => {
  const refused = (error: unknown): boolean => error instanceof IdentityError && error.reason === "TargetUnauthorized";

  test("is read anew once for all who are refused, and the request sent again", async () => {
    script = only("new");
    const [old, fresh] = [connect("old"), connect("new")];
    let renewals = 0;
    const access = renewingAccess(old, {
      key: "k",
      identity: "x",
      renew: (given) => {
        expect(given).toBe(old);
        renewals++;
        return Promise.resolve(fresh);
      },
    });
    await Promise.all([1, 2, 3].map(() => access.client.send(get)));
    await access.client.send(get);
    expect(renewals).toBe(1);
    expect(requests).toBe(7);
    old.retire();
    fresh.retire();
  });

  test("fails the request when the one read anew is refused, too, naming the cluster and no credential", async () => {
    script = only("another");
    const access = renewingAccess(connect("old-secret"), {
      key: "k",
      identity: "x",
      renew: () => Promise.resolve(connect("new-secret")),
    });
    const error = await access.client.send(get).catch((caught: unknown) => caught);
    expect(refused(error)).toBe(true);
    expect(String(error)).toContain("refused the credential");
    expect(String(error)).not.toContain("secret");
    expect(requests).toBe(2);
  });
});
