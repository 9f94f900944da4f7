import { describe, expect, test } from "vitest";
import { createManualClock } from "../../lib/clock.ts";
import { createConnectionCache, mostConnections, type ConnectionName } from "./connection-cache.ts";
import type { RemoteConnection } from "./connection.ts";

const connection = (): RemoteConnection & { retired: boolean } => ({
  retired: false,
  host: "there",
  cluster: "there",
  isOpen: false,
  send: () => Promise.reject(new Error("nobody there")),
  stream: () => {
    throw new Error("nobody there");
  },
  discovery: {
    find: () => Promise.resolve(undefined),
    preferredFor: () => Promise.resolve([]),
    all: () => Promise.resolve([]),
    invalidate() {},
  },
  retire() {
    this.retired = true;
  },
});

const name = (o: Partial<ConnectionName> = {}): ConnectionName => ({
  namespace: "ns",
  reference: "Secret/there/value",
  account: "deployer",
  ...o,
});
const use = (version: string, owner = "ns/app") => ({ version, owner });

describe("connections to remote clusters", () => {
  test.each<[string, ConnectionName]>([
    ["another namespace", name({ namespace: "other" })],
    ["another identity", name({ account: "reader" })],
    ["the controller", name({ account: undefined })],
    ["another Secret", name({ reference: "Secret/elsewhere/value" })],
    ["another entry of the Secret", name({ reference: "Secret/there/config" })],
    ["a ConfigMap", name({ reference: "ConfigMap/there" })],
  ])("one is never given to %s", (_, other) => {
    using cache = createConnectionCache({ clock: createManualClock() });
    cache.add(name(), use("1"), connection());
    expect(cache.get(other, use("1"))).toBeUndefined();
  });

  test("a ServiceAccount called like the controller's entry is not the controller", () => {
    using cache = createConnectionCache({ clock: createManualClock() });
    cache.add(name({ account: undefined }), use("1"), connection());
    for (const account of ["controller", "null", "undefined"])
      expect(cache.get(name({ account }), use("1"))).toBeUndefined();
  });

  test("[50.17] another version retires what was made from the one before, for every identity", () => {
    using cache = createConnectionCache({ clock: createManualClock() });
    const [mine, theirs, foreign] = [connection(), connection(), connection()];
    cache.add(name(), use("1"), mine);
    cache.add(name({ account: "reader" }), use("1"), theirs);
    cache.add(name({ namespace: "other" }), use("1"), foreign);
    expect(cache.get(name(), use("2"))).toBeUndefined();
    expect([mine, theirs, foreign].map(({ retired }) => retired)).toEqual([true, true, false]);
    expect(cache.size).toBe(1);
  });

  test("[50.17] 600 of them, and 600 rotations of each, leave at most 500, the least recently used being gone", () => {
    const clock = createManualClock();
    using cache = createConnectionCache({ clock });
    const made: (RemoteConnection & { retired: boolean })[] = [];
    for (let version = 0; version < 600; version++) {
      const fresh = connection();
      made.push(fresh);
      cache.add(name(), use(String(version)), fresh);
    }
    expect(cache.size).toBe(1);
    expect(made.filter(({ retired }) => !retired)).toEqual([made.at(-1)]);
    for (let index = 0; index < 600; index++) {
      cache.add(name({ namespace: `ns-${String(index)}` }), use("1"), connection());
      cache.get(name(), use("599"));
    }
    expect(cache.size).toBe(mostConnections);
    expect(cache.get(name(), use("599"))).toBe(made.at(-1));
    expect(cache.get(name({ namespace: "ns-0" }), use("1"))).toBeUndefined();
    expect(cache.get(name({ namespace: "ns-599" }), use("1"))).toBeDefined();
  });

  test("one that nobody used for half an hour is gone, and so is one whose last StageSet is", () => {
    const clock = createManualClock();
    using cache = createConnectionCache({ clock });
    const [idle, used] = [connection(), connection()];
    cache.add(name({ reference: "Secret/idle/value" }), use("1"), idle);
    cache.add(name(), use("1"), used);
    cache.get(name(), use("1", "ns/second"));
    clock.advance(20 * 60_000);
    cache.get(name(), use("1"));
    clock.advance(12 * 60_000);
    expect([idle.retired, used.retired]).toEqual([true, false]);
    cache.release("ns/app");
    expect(used.retired).toBe(false);
    cache.release("ns/second");
    expect(used.retired).toBe(true);
    expect(cache.size).toBe(0);
  });

  test("who was quicker is used by both; a refused one is dropped once", () => {
    using cache = createConnectionCache({ clock: createManualClock() });
    const [first, second, third] = [connection(), connection(), connection()];
    cache.add(name(), use("1"), first);
    expect(cache.add(name(), use("1"), second)).toBe(first);
    expect([first.retired, second.retired]).toEqual([false, true]);
    cache.drop(name(), first);
    expect(first.retired).toBe(true);
    cache.add(name(), use("1"), third);
    cache.drop(name(), first);
    expect(cache.get(name(), use("1"))).toBe(third);
  });
});
