import { connect, type Socket } from "node:net";
import { describe, expect, test } from "vitest";
import { listen, type Listener, type ListenOptions } from "../../src/http/server.ts";
import type { HttpHandler } from "../../src/http/message.ts";
import { createManualClock, type Clock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/telemetry.ts";
import { eventually } from "../support/eventually.ts";

/** Far more than kernels buffer for one connection. */
const large = 32 * 1024 * 1024;
const bounds = { unansweredPerConnection: 1, slowReaders: { takenWithinMs: 30_000, unsentBytes: 2 * large } };
const get = "GET / HTTP/1.1\r\nHost: ui\r\n\r\n";

function open(handler: HttpHandler, clock: Clock, more: Partial<ListenOptions> = bounds): Promise<Listener> {
  return listen({ host: "127.0.0.1", port: 0, handler, clock, logger: silentLogger, ...more });
}

function socketTo({ address }: Listener): Socket {
  const socket = connect({ port: address.port, host: "127.0.0.1" });
  return socket.on("error", () => undefined);
}

/** Asks and reads nothing. */
function unreading(listener: Listener, text = get): Socket {
  const socket = socketTo(listener).pause();
  socket.write(text);
  return socket;
}

/** All that comes until the other side closes. */
async function read(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk)).resume();
  await new Promise((resolve) => socket.once("close", resolve));
  return Buffer.concat(chunks).toString("latin1");
}

const last = get.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");

describe("clients that read nothing", () => {
  test("lose their connection 30 s after the answer was ready, those that read get all of it", async () => {
    const clock = createManualClock();
    let answered = 0;
    await using listener = await open(() => {
      answered++;
      return { status: 200, headers: {}, body: "x".repeat(large) };
    }, clock);
    const slow = unreading(listener);
    await eventually(() => answered === 1);
    const whole = await read(unreading(listener, last));
    expect(whole.endsWith("x".repeat(100))).toBe(true);
    expect(whole.length).toBeGreaterThan(large);
    clock.advance(30_000);
    const cut = await read(slow);
    expect(cut).toMatch(/^HTTP\/1\.1 200 /);
    expect(cut.length).toBeLessThan(large);
  });

  test("hold so many bytes together: further large answers are 503, small ones go on, and all do once they are gone", async () => {
    const clock = createManualClock();
    let answered = 0;
    await using listener = await open(({ target }) => {
      answered++;
      return { status: 200, headers: {}, body: target === "/small" ? "small\n" : "x".repeat(large) };
    }, clock);
    const slow = [unreading(listener), unreading(listener)];
    await eventually(() => answered === 2);
    const refused = await read(unreading(listener, last));
    expect(refused).toMatch(/^HTTP\/1\.1 503 /);
    expect(refused.toLowerCase()).toContain("retry-after: 5\r\n");
    expect(await read(unreading(listener, last.replace("/", "/small")))).toMatch(/^HTTP\/1\.1 200 [^]*small\n$/);
    clock.advance(30_000);
    await Promise.all(slow.map(read));
    expect(await read(unreading(listener, last))).toMatch(/^HTTP\/1\.1 200 /);
  });

  test("get one answer at a time: a request ahead of it closes the connection", async () => {
    let asked = 0;
    await using listener = await open((_request, { signal }) => {
      asked++;
      return new Promise((resolve) =>
        signal.addEventListener("abort", () => resolve({ status: 503, headers: {}, body: "" }), { once: true }),
      );
    }, createManualClock());
    expect(await read(unreading(listener, get.repeat(8)))).toBe("");
    expect(asked).toBe(1);
  });

  test("that ask again when they have their answer are served on the same connection", async () => {
    await using listener = await open(
      ({ target }) => ({ status: 200, headers: {}, body: `answer to ${target}\n` }),
      createManualClock(),
    );
    const socket = socketTo(listener);
    let text = "";
    socket.setEncoding("latin1").on("data", (chunk: string) => (text += chunk));
    for (let count = 0; count < 50; count++) {
      socket.write(get.replace("/", `/${count}`));
      await eventually(() => text.includes(`answer to /${count}\n`));
    }
    socket.destroy();
  });

  test("keep their answer on listeners without such a bound", async () => {
    const clock = createManualClock();
    let answered = 0;
    await using listener = await open(
      () => {
        answered++;
        return { status: 200, headers: {}, body: "x".repeat(large) };
      },
      clock,
      {},
    );
    const slow = Array.from({ length: 4 }, () => unreading(listener, last));
    await eventually(() => answered === 4);
    clock.advance(60_000);
    for (const text of await Promise.all(slow.map(read))) expect(text.length).toBeGreaterThan(large);
  });
});
