import { connect, type Socket } from "node:net";
import { describe, expect, test } from "vitest";
import { gateHeaders } from "../../src/http/gate.ts";
import type { HttpHandler } from "../../src/http/message.ts";
import { listen, type Listener } from "../../src/http/server.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/telemetry.ts";
import { eventually } from "../support/eventually.ts";

function open(handler: HttpHandler): Promise<Listener> {
  return listen({
    host: "127.0.0.1",
    port: 0,
    handler,
    headers: gateHeaders,
    clock: systemClock,
    logger: silentLogger,
  });
}

const ok: HttpHandler = () => ({ status: 200, headers: {}, body: "yes\n" });

function socketTo({ address }: Listener): Socket {
  const socket = connect({ port: address.port, host: "127.0.0.1" });
  socket.on("error", () => undefined);
  return socket;
}

/** Sends a text as it is, and gives all that comes back until the other side closes. */
async function exchange(listener: Listener, sent: string): Promise<string> {
  const socket = socketTo(listener);
  let received = "";
  socket.setEncoding("latin1").on("data", (chunk: string) => (received += chunk));
  socket.write(sent);
  await new Promise((resolve) => socket.once("close", resolve));
  return received;
}

const get = "GET /gate/a/b/c HTTP/1.1\r\nHost: gate\r\n\r\n";

describe("the listener of the gate", () => {
  test.concurrent.each([
    [
      "413 for a body that is declared too large",
      413,
      `${get.replace("\r\n\r\n", "")}\r\nContent-Length: 65537\r\n\r\n`,
    ],
    [
      "413 for a body that grows too large",
      413,
      `POST /gate/a/b/c HTTP/1.1\r\nHost: gate\r\nTransfer-Encoding: chunked\r\n\r\n${`8000\r\n${"x".repeat(0x8000)}\r\n`.repeat(4)}`,
    ],
    ["431 for headers above 16 KiB", 431, `GET / HTTP/1.1\r\nHost: gate\r\nX-Large: ${"x".repeat(17_000)}\r\n\r\n`],
    ["400 for what is no HTTP", 400, "nonsense\r\n\r\n"],
    ["408 for headers that do not end", 408, "GET / HTTP/1.1\r\nHost: gate\r\nX-Slow: "],
    ["417 for an expectation that is none", 417, `${get.replace("\r\n\r\n", "")}\r\nExpect: tea\r\n\r\n`],
    ["500 for a fault of the handler", 500, `${get.replace("\r\n\r\n", "")}\r\nConnection: close\r\n\r\n`],
  ])("[40.39] %s forbids caching like every answer, and says nothing more", async (what, status, sent) => {
    await using listener = await open(
      status === 413 && what.includes("grows")
        ? (_request, { signal }) =>
            new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(new Error("gone"))))
        : () => Promise.reject(new Error("secret")),
    );
    const answer = await exchange(listener, sent);
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    for (const [name, value] of Object.entries(gateHeaders))
      expect(answer.toLowerCase()).toContain(`\r\n${name}: ${value.toLowerCase()}\r\n`);
    expect(answer).not.toMatch(/secret|etag|set-cookie|location/i);
  });

  test("[40.39] 2,000 connections that ask nothing, or never end asking, keep nobody out", async () => {
    await using listener = await open(ok);
    const first = socketTo(listener).resume();
    const rude = Array.from({ length: 2_000 }, (_, index) => {
      const socket = socketTo(listener);
      if (index % 2 === 0) socket.write(get); // And then says no more, on a connection that may live for 75 s.
      if (index % 4 === 1) socket.write("GET /gate/a/b/c HTTP/1.1\r\nX-Slow: ");
      return socket.resume();
    });
    let closed = 0;
    for (const socket of rude) socket.once("close", () => closed++);
    await eventually(() => closed >= 1_300, { timeoutMs: 20_000 });
    expect(first.closed).toBe(true); // Who waited for longest goes first.
    for (let count = 0; count < 5; count++) {
      const response = await fetch(`http://127.0.0.1:${listener.address.port}/gate/a/b/c`);
      expect(await response.text()).toBe("yes\n");
    }
    for (const socket of [first, ...rude]) socket.destroy();
  });

  test("[40.39] with 512 connections waiting for their answers a further request is told to come again, and they get theirs", async () => {
    const { promise: released, resolve: release } = Promise.withResolvers<undefined>();
    let waiting = 0;
    await using listener = await open(async () => {
      waiting++;
      await released;
      return { status: 200, headers: {}, body: "yes\n" };
    });
    const patient = Array.from({ length: 512 }, () =>
      exchange(listener, get.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")),
    );
    await eventually(() => waiting === 512);
    const refused = await exchange(listener, get);
    expect(refused).toMatch(/^HTTP\/1\.1 503 /);
    expect(refused.toLowerCase()).toContain("retry-after: 1\r\n");
    release(undefined);
    for (const answer of await Promise.all(patient)) expect(answer).toMatch(/^HTTP\/1\.1 200 /);
  });

  test("[40.39] requests sent ahead of their answers are taken up to eight, then the connection is closed", async () => {
    let asked = 0;
    await using listener = await open((_request, { signal }) => {
      asked++;
      return new Promise((resolve) =>
        signal.addEventListener("abort", () => resolve({ status: 503, headers: {}, body: "" }), { once: true }),
      );
    });
    expect(await exchange(listener, get.repeat(2_000))).toBe("");
    expect(asked).toBe(8);
  });

  test("eight requests sent ahead are answered in order", async () => {
    let asked = 0;
    await using listener = await open(() => ({ status: 200, headers: {}, body: `${++asked}\n` }));
    const last = get.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    const answers = await exchange(listener, get.repeat(7) + last);
    expect([...answers.matchAll(/^(\d)$/gm)].map(([digit]) => digit).join("")).toBe("12345678");
  });
});
