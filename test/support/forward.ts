/**
 * Forwards connections between a network namespace and the machine through Unix sockets, which both see:
 *   node forward.ts LISTEN=CONNECT…      each end `unix:PATH` or `tcp:HOST:PORT`
 * Prints `ready` when all listen.
 */
import { connect, createServer, type NetConnectOpts, type Socket } from "node:net";

type End = { readonly path: string } | { readonly host: string; readonly port: number };

function readEnd(text: string): End {
  if (text.startsWith("unix:")) return { path: text.slice("unix:".length) };
  const [, host = "", port = ""] = /^tcp:(.+):(\d+)$/.exec(text) ?? [];
  return { host, port: Number(port) };
}

export async function forward(from: string, to: string): Promise<() => void> {
  const target: NetConnectOpts = readEnd(to);
  const open = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(target);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(one);
      one.pipe(other);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        open.delete(one);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(readEnd(from), resolve);
  });
  return () => {
    server.close();
    for (const socket of open) socket.destroy();
  };
}

if (import.meta.main) {
  for (const pair of process.argv.slice(2)) {
    const cut = pair.indexOf("=");
    await forward(pair.slice(0, cut), pair.slice(cut + 1));
  }
  process.stdout.write("ready\n");
}
