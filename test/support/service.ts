import { connect, createServer, type Socket } from "node:net";

/** What a Service does for its clients: one address in front of whatever endpoints are ready. */
export interface TestService extends AsyncDisposable {
  /** `http://127.0.0.1:<port>`. */
  readonly url: string;
  readonly port: number;
  /** Sends new connections to these base URLs in turn, or refuses them when there is none; open ones are cut. */
  route(endpoints: readonly string[]): void;
  /** The same, as kube-proxy does it: open ones stay where they are. */
  offer(endpoints: readonly string[]): void;
  /** Connections refused so far. */
  readonly refused: number;
}

export async function startService(initial: readonly string[] = []): Promise<TestService> {
  const sockets = new Set<Socket>();
  let endpoints = initial;
  let next = 0;
  let refused = 0;
  const server = createServer((client) => {
    const target = endpoints[next++ % Math.max(1, endpoints.length)];
    if (target === undefined) {
      refused++;
      return void client.resetAndDestroy();
    }
    const { hostname, port } = new URL(target);
    const upstream = connect({ host: hostname, port: Number(port) });
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      socket.once("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
      socket.once("error", () => other.destroy());
      socket.pipe(other);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" ? (address?.port ?? 0) : 0;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    offer(fresh) {
      endpoints = fresh;
    },
    route(fresh) {
      endpoints = fresh;
      for (const socket of sockets) socket.destroy();
    },
    get refused() {
      return refused;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
