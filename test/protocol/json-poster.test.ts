import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/telemetry.ts";
import { createJsonPoster } from "../../src/outbound/json-poster.ts";
import { eventually } from "../support/eventually.ts";

const bodies: string[] = [];
const answers: number[] = [];
const server = createServer((incoming, outgoing) => {
  let text = "";
  incoming.on("data", (chunk: Buffer) => (text += chunk.toString()));
  incoming.on("end", () => {
    bodies.push(text);
    outgoing.writeHead(answers.shift() ?? 200).end();
  });
});
beforeAll(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve)));
afterAll(() => new Promise((resolve) => server.close(resolve)));

test("values are posted in order; a 5xx is tried again, a 4xx is not, and no log names the URL", async () => {
  const said: string[] = [];
  const logger = {
    ...silentLogger,
    warn: (message: string, fields?: object) => void said.push(`${message} ${JSON.stringify(fields)}`),
  };
  const { port } = server.address() as AddressInfo; // A TCP listener's address is never text.
  const url = `http://127.0.0.1:${port}/hook?token=canary`;
  await using poster = createJsonPoster({ url, clock: systemClock, logger, what: "event" });
  answers.push(503, 200, 400, 200);
  for (const n of [1, 2, 3]) poster.post({ n });
  await eventually(() => bodies.length === 4);
  expect(bodies).toEqual(['{"n":1}', '{"n":1}', '{"n":2}', '{"n":3}']);
  expect(said).toEqual(['cannot post an event {"error":"the answer was 400"}']);
});
