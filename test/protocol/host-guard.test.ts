import { createServer, connect, type AddressInfo } from "node:net";
import { describe, expect, test } from "vitest";
import { systemClock } from "../../src/lib/clock.ts";
import { createHostGuard } from "../../src/outbound/host-guard.ts";
import { OutboundError } from "../../src/outbound/outbound-error.ts";

const { signal } = new AbortController();

/** A guard whose resolver gives these answers, one after another. */
function guardOf(answers: readonly (readonly string[])[], allowLoopback = false) {
  let asked = 0;
  const resolve = (): Promise<readonly string[]> => Promise.resolve(answers[asked++] ?? []);
  return createHostGuard({ allowLoopback, clock: systemClock, resolve });
}

/** Connects as sockets do that are given the guard's resolver. */
function dial(guard: ReturnType<typeof guardOf>, port: number): Promise<"connected" | Error> {
  return new Promise((resolve) => {
    const socket = connect({ host: "api.example", port, lookup: guard.lookup });
    socket.on("connect", () => {
      socket.destroy();
      resolve("connected");
    });
    socket.on("error", resolve);
  });
}

describe("connections that others make", () => {
  test.each([
    ["loopback", "https://127.0.0.1"],
    ["an odd spelling of it", "https://0x7f.1"],
    ["localhost with a dot", "https://localhost."],
    ["link-local", "https://169.254.169.254"],
    ["an address inside of IPv6", "https://[::ffff:127.0.0.1]"],
    ["a metadata server by name", "https://metadata.google.internal"],
  ])("%s is refused without a look-up", async (_, url) => {
    const error = await guardOf([])
      .check(new URL(url), { what: "server", signal })
      .catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(OutboundError);
    expect(error).toMatchObject({ reason: "Refused" });
  });

  test("a name that resolves to loopback once it is connected to gets no connection", async () => {
    let connections = 0;
    const server = createServer((socket) => {
      connections++;
      socket.destroy();
    });
    await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo; // It listens on a port.
    const guard = guardOf([["10.0.0.1"], ["127.0.0.1"], ["10.0.0.1", "127.0.0.1"]]);
    await guard.check(new URL("https://api.example"), { what: "server", signal });
    for (const _ of ["rebound", "one of two"]) expect(await dial(guard, port)).toBeInstanceOf(OutboundError);
    expect(connections).toBe(0);
    expect(await dial(guardOf([["127.0.0.1"]], true), port)).toBe("connected");
    server.close();
  });

  test("a name without an address is no refusal", async () => {
    const error = await guardOf([[]])
      .check(new URL("https://api.example"), { what: "server", signal })
      .catch((caught: unknown) => caught);
    expect(error).toMatchObject({ reason: "Unreachable" });
  });
});
