import { Agent, request } from "node:https";

/** How to reach an API server. */
export interface ApiTarget {
  readonly server: string;
  readonly caPem: string;
  readonly token: string;
}

export interface ApiAnswer {
  readonly status: number;
  readonly body: unknown;
}

/** One request for the set-up of a control plane, on a connection of its own; the answer's body is parsed when it is JSON. */
export function callApi(
  { server, caPem, token }: ApiTarget,
  method: string,
  path: string,
  {
    body,
    contentType = "application/json",
    signal,
  }: { body?: unknown; contentType?: string; signal?: AbortSignal } = {},
): Promise<ApiAnswer> {
  return new Promise((resolve, reject) => {
    const agent = new Agent({ ca: caPem, keepAlive: false });
    const payload = body === undefined ? "" : typeof body === "string" ? body : JSON.stringify(body);
    const headers = {
      authorization: `Bearer ${token}`,
      accept: "application/json",
      "content-type": contentType,
      "content-length": Buffer.byteLength(payload), // Node frames the body of a DELETE only when told its length.
    };
    const outgoing = request(new URL(path, server), { method, agent, headers, timeout: 30_000, signal }, (incoming) => {
      const chunks: Buffer[] = [];
      incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
      incoming.once("error", reject);
      incoming.once("end", () => {
        const text = Buffer.concat(chunks).toString();
        resolve({ status: incoming.statusCode ?? 0, body: text.startsWith("{") ? JSON.parse(text) : text });
      });
    });
    outgoing.once("timeout", () => outgoing.destroy(new Error(`${method} "${path}" took longer than 30 s`)));
    outgoing.once("error", reject);
    outgoing.end(payload);
  });
}
