import { channel } from "node:diagnostics_channel";
import { networkInterfaces } from "node:os";
import { createServer } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { createManualClock, systemClock } from "../../src/lib/clock.ts";
import { isDenied, parseAddress } from "../../src/lib/address.ts";
import { createGuardedFetch, type GuardedFetch, type GuardOptions } from "../../src/outbound/guard.ts";
import { startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";

const never = new AbortController().signal;

// One address of each denied range that is not loopback.
const deniedV4 = ["0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "255.255.255.255", "100.100.100.200"];
const moreDeniedV4 = ["168.63.129.16", "192.0.0.192"];
const deniedV6 = ["::", "fe80::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254"];
const loopbacks = ["127.0.0.1", "127.8.9.10", "::1"];

function oddSpellings(v4: string): readonly string[] {
  const [a = 0, b = 0, c = 0, d = 0] = v4.split(".").map(Number);
  const whole = ((a * 256 + b) * 256 + c) * 256 + d;
  return [
    String(whole),
    `0x${whole.toString(16)}`,
    `0${whole.toString(8)}`,
    `${a}.${(b * 256 + c) * 256 + d}`,
    `0x${a.toString(16)}.0${b.toString(8)}.${c * 256 + d}`,
    `${v4}.`,
    v4.replaceAll(".", "%2e"),
  ];
}

function embeddings(v4: string): readonly string[] {
  const [a = 0, b = 0, c = 0, d = 0] = v4.split(".").map(Number);
  const sixToFour = `2002:${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}::1`;
  return [`::ffff:${v4}`, `::${v4}`, `64:ff9b::${v4}`, `64:ff9b:1::${v4}`, sixToFour].map((text) => `[${text}]`);
}

/** Counts every socket that this process connects while `run` does. */
async function socketsDuring(run: () => Promise<unknown>): Promise<number> {
  let sockets = 0;
  const count = (): void => {
    sockets++;
  };
  const opened = channel("net.client.socket");
  opened.subscribe(count);
  try {
    await run();
  } finally {
    opened.unsubscribe(count);
  }
  return sockets;
}

function guarded(o: Partial<GuardOptions> = {}): GuardedFetch {
  const resolve = (): Promise<never> => Promise.reject(new Error("nothing is to be resolved"));
  return createGuardedFetch({ allowLoopback: false, clock: systemClock, resolve, ...o });
}

/** The reason of the failure; `none` when there is an answer. */
async function reasonOf(fetch: GuardedFetch, url: string): Promise<unknown> {
  try {
    await using _answer = await fetch(url, { signal: never });
    return "none";
  } catch (error) {
    return error instanceof Error && "reason" in error ? error.reason : error;
  }
}

async function refusedOf(fetch: GuardedFetch, urls: readonly string[]): Promise<readonly string[]> {
  const reasons = await Promise.all(urls.map(async (url) => [url, await reasonOf(fetch, url)] as const));
  return reasons.filter(([, reason]) => reason === "Refused").map(([url]) => url);
}

async function startServer(host?: string): Promise<ArtifactServer> {
  const server = await startArtifactServer(host === undefined ? {} : { host });
  onTestFinished(() => server.stop());
  server.serve("/ok", Buffer.from("hello"));
  return server;
}

describe("refused without a connection or a lookup", () => {
  const literals = [...deniedV4, ...moreDeniedV4, ...loopbacks.slice(0, 2)];
  const rows: readonly (readonly [string, readonly string[]])[] = [
    ["an address", [...literals, ...[...deniedV6, "::1"].map((text) => `[${text}]`)]],
    ["an odd spelling", literals.flatMap(oddSpellings)],
    ["IPv4 inside of IPv6", literals.flatMap(embeddings)],
    ["a name that is loopback", ["localhost", "LocalHost.", "x.localhost", "a.b.LOCALHOST."]],
    ["a name of a metadata server", ["metadata.google.internal", "METADATA.google.internal.", "metadata.goog"]],
    ["a name with an empty label", ["localhost..", "a..b"]],
  ];
  test.each(rows)("[50.36] %s", async (_what, hosts) => {
    const urls = hosts.flatMap((host) => [`http://${host}/`, `https://${host}:8443/x?y`]);
    const sockets = await socketsDuring(async () => {
      expect(await refusedOf(guarded(), urls)).toEqual(urls);
    });
    expect(sockets).toBe(0);
  });

  test("[50.36] what is no http URL, or carries credentials", async () => {
    const urls = [
      ...["", "x", "/path", "http://", "http:///", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com"],
      ...["data:,x", "unix:/run/x.sock", "http://user@example.com/", "https://user:secret@example.com/", "http://[::1"],
      ...["http://1.2.3.4.5/", "http://256.1.1.1/", "http://exa mple.com/"],
    ];
    const sockets = await socketsDuring(async () => {
      expect(await refusedOf(guarded(), urls)).toEqual(urls);
    });
    expect(sockets).toBe(0);
  });
});

describe("names", () => {
  const all = [...deniedV4, ...moreDeniedV4, ...deniedV6, ...loopbacks, "::ffff:127.0.0.1", "fe80::1%eth0"];
  test.each(all)(
    "[50.36] a name that resolves to %s is refused, also when only one of its addresses is that",
    async (bad) => {
      const sockets = await socketsDuring(async () => {
        for (const addresses of [[bad], ["10.0.0.1", bad], [bad, "10.0.0.1"]])
          expect(await reasonOf(guarded({ resolve: () => Promise.resolve(addresses) }), "http://a.test/")).toBe(
            "Refused",
          );
      });
      expect(sockets).toBe(0);
    },
  );

  test("[50.36] an answer of the resolver that is no address is refused", async () => {
    expect(await reasonOf(guarded({ resolve: () => Promise.resolve(["10.0.0.1", "x"]) }), "http://a/")).toBe("Refused");
  });

  test("[50.36] a name is looked up once, so that a second answer is not asked for", async () => {
    const server = await startServer();
    const asked: string[] = [];
    const resolve = (name: string): Promise<readonly string[]> => {
      asked.push(name);
      return Promise.resolve(asked.length === 1 ? ["127.0.0.1"] : ["169.254.169.254"]);
    };
    const fetch = guarded({ allowLoopback: true, resolve });
    expect(await reasonOf(fetch, `http://Rebind.test.:${server.port}/ok`)).toBe("none");
    expect(asked).toEqual(["rebind.test"]);
    expect(server.requests[0]?.headers.host).toBe(`rebind.test:${server.port}`);
    // The next request is another one: nothing of the first is reused.
    expect(await reasonOf(fetch, `http://rebind.test:${server.port}/ok`)).toBe("Refused");
    expect(server.requests).toHaveLength(1);
  });

  test("[50.36] another address is tried when one does not answer, and no other than those that were checked", async () => {
    const server = await startServer();
    const fetch = guarded({ allowLoopback: true, resolve: () => Promise.resolve(["::1", "127.0.0.1"]) });
    expect(await reasonOf(fetch, `http://two.test:${server.port}/ok`)).toBe("none");
  });

  test("[50.36] a name without an address, and a resolver that fails, may do better later", async () => {
    const none = guarded({ resolve: () => Promise.resolve([]) });
    expect(await reasonOf(none, "http://a.test/")).toBe("Unreachable");
    expect(await reasonOf(guarded(), "http://a.test/")).toBe("Unreachable");
  });

  test("[50.36] a resolver that hangs is left after 10 s", async () => {
    const clock = createManualClock();
    const fetch = guarded({ clock, resolve: () => new Promise(() => undefined) });
    const reason = reasonOf(fetch, "http://a.test/");
    await Promise.resolve();
    clock.advance(10_000);
    expect(await reason).toBe("TimedOut");
  });
});

describe("redirects", () => {
  const targets = [
    ...[...deniedV4, ...moreDeniedV4].flatMap((v4) => [v4, ...oddSpellings(v4), ...embeddings(v4)]),
    ...deniedV6.map((text) => `[${text}]`),
    ...embeddings("127.0.0.1"),
    "metadata.google.internal",
    "denied.test",
  ];
  test("[50.36] every one is checked: addresses, spellings and names are refused there too", async () => {
    const server = await startServer();
    let target = "";
    server.serve("/go", () => ({ kind: "redirect", location: target }));
    const fetch = guarded({ allowLoopback: true, resolve: () => Promise.resolve(["10.0.0.1", "169.254.169.254"]) });
    for (const host of targets) {
      target = `http://${host}/`;
      const sockets = await socketsDuring(async () => {
        expect([host, await reasonOf(fetch, `${server.url}/go`)]).toEqual([host, "Refused"]);
      });
      expect(sockets).toBe(1);
    }
  });

  const outside = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .map(({ address }) => address)
    .find((text) => {
      const address = parseAddress(text);
      return address?.family === 4 && !isDenied(address, { allowLoopback: false });
    });
  // A machine may have no address but loopback.
  test.skipIf(outside === undefined)("from an allowed host to loopback is refused, whatever its spelling", async () => {
    const from = await startServer(outside);
    const listener = await startServer();
    let host = "";
    from.serve("/go", () => ({ kind: "redirect", location: `http://${host}:${listener.port}/ok`, status: 307 }));
    const fetch = guarded({ resolve: () => Promise.resolve(["127.0.0.1"]) });
    expect(await reasonOf(fetch, `${from.url}/ok`)).toBe("none");
    for (host of ["127.0.0.1", "127.1", "0x7f.1", "localhost.", "x.localhost", "[::1]", "[::ffff:127.0.0.1]", "a.test"])
      expect([host, await reasonOf(fetch, `${from.url}/go`)]).toEqual([host, "Refused"]);
    expect(listener.requests).toEqual([]);
    const own = guarded({ ownAddresses: [outside ?? ""] });
    expect(await reasonOf(own, `${from.url}/ok`)).toBe("Refused");
  });

  test("[50.36] ten are followed, eleven are not; relative ones too, and every status that is one", async () => {
    const server = await startServer();
    const fetch = guarded({ allowLoopback: true });
    const statuses = [301, 302, 303, 307, 308];
    for (let at = 1; at <= 11; at++) {
      const location = at === 1 ? "/ok" : `${at - 1}`;
      server.serve(`/${at}`, { kind: "redirect", location, status: statuses[at % 5] ?? 302 });
    }
    expect(await reasonOf(fetch, `${server.url}/10`)).toBe("none");
    expect(await reasonOf(fetch, `${server.url}/11`)).toBe("Refused");
  });

  test.each(["ftp://example.com/", "http://", "file:///etc/passwd", "http://u:p@example.com/"])(
    "to %s is refused",
    async (location) => {
      const server = await startServer();
      server.serve("/go", { kind: "redirect", location });
      expect(await reasonOf(guarded({ allowLoopback: true }), `${server.url}/go`)).toBe("Refused");
    },
  );
});

describe("allowing loopback", () => {
  test("[50.36] lifts loopback: 127.0.0.0/8 in any spelling, localhost and the names below it", async () => {
    const server = await startServer();
    const fetch = guarded({ allowLoopback: true });
    for (const host of ["127.0.0.1", "127.1", "0x7f000001", "localhost", "localhost.", "x.localhost"])
      expect([host, await reasonOf(fetch, `http://${host}:${server.port}/ok`)]).toEqual([host, "none"]);
  });

  test("[50.36] lifts nothing else", async () => {
    const hosts = [...deniedV4, ...moreDeniedV4].flatMap((v4) => [v4, ...oddSpellings(v4), ...embeddings(v4)]);
    const urls = [...hosts, ...embeddings("127.0.0.1"), ...deniedV6.map((text) => `[${text}]`)].map(
      (host) => `http://${host}/`,
    );
    const sockets = await socketsDuring(async () => {
      expect(await refusedOf(guarded({ allowLoopback: true }), urls)).toEqual(urls);
    });
    expect(sockets).toBe(0);
  });
});

test("private ranges are asked: an RFC 1918 address gets past the check", async () => {
  const stop = new AbortController();
  const opened = channel("net.client.socket");
  const onSocket = (): void => stop.abort(new Error("connecting"));
  opened.subscribe(onSocket);
  onTestFinished(() => {
    opened.unsubscribe(onSocket);
  });
  await expect(guarded()("http://10.255.255.1/", { signal: stop.signal })).rejects.toThrow("connecting");
});

test("the environment's proxy is not used", async () => {
  const server = await startServer();
  const proxy = await startServer();
  for (const name of ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "NODE_USE_ENV_PROXY"]) {
    const before = process.env[name];
    process.env[name] = name.startsWith("NODE") ? "1" : proxy.url;
    onTestFinished(() => {
      if (before === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = before;
    });
  }
  expect(await reasonOf(guarded({ allowLoopback: true }), `${server.url}/ok`)).toBe("none");
  expect([server.requests.length, proxy.requests.length]).toEqual([1, 0]);
});

test("a TLS server that says nothing is left after 10 s, and its connection is closed", async () => {
  const clock = createManualClock();
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => new Promise<void>((resolve) => server.close(() => resolve())));
  const at = server.address();
  const port = typeof at === "object" && at !== null ? at.port : 0;
  const closed = new Promise<void>((resolve) => {
    server.once("connection", (socket) => {
      socket.on("error", () => undefined);
      // The greeting is here: the client is in its handshake.
      socket.once("data", () => clock.advance(10_000));
      socket.once("close", () => resolve());
    });
  });
  expect(await reasonOf(guarded({ allowLoopback: true, clock }), `https://127.0.0.1:${port}/`)).toBe("TimedOut");
  await closed;
});

test("aborting ends a request that waits for its answer, with the signal's reason", async () => {
  const server = await startServer();
  server.serve("/hang", { kind: "hang" });
  const stop = new AbortController();
  const asked = guarded({ allowLoopback: true })(`${server.url}/hang`, { signal: stop.signal });
  while (server.count("/hang") === 0) await new Promise((resolve) => setImmediate(resolve));
  stop.abort(new RangeError("enough"));
  await expect(asked).rejects.toThrow(RangeError);
});
