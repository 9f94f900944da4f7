import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";

export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** An HTTP server on loopback that says what it was asked. */
export interface Receiver extends AsyncDisposable {
  readonly url: string;
  readonly seen: readonly Seen[];
  reply: (seen: Seen, response: ServerResponse) => void;
}

export async function startReceiver(): Promise<Receiver> {
  const seen: Seen[] = [];
  const receiver = { reply: (_seen: Seen, response: ServerResponse): void => void response.end("fine") };
  const server: Server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => (body += chunk.toString()));
    request.on("end", () => {
      const each = { method: request.method ?? "", path: request.url ?? "", headers: request.headers, body };
      seen.push(each);
      receiver.reply(each, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return Object.assign(receiver, {
    url: `http://127.0.0.1:${port}`,
    seen,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  });
}
