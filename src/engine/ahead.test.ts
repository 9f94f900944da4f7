import { expect, test } from "vitest";
import type { Pin } from "../domain/pins.ts";
import { createManualClock } from "../lib/clock.ts";
import { createAheadRenders, type AheadWork } from "./ahead.ts";

const key = (name: string) => ({ namespace: "shop", name });
const pin = (revision: string): Pin => ({
  namespace: "shop",
  name: "app",
  kind: "ExternalArtifact",
  revision,
  digest: `sha256:${revision}`,
  url: `http://source/${revision}`,
  foreign: false,
  foreignSentence: "",
});
const settled = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
};

/** Work whose renders end when told to, or when they are aborted. */
function works() {
  const events: string[] = [];
  const running = new Map<string, () => void>();
  const work = (offered: string | undefined, more: Partial<AheadWork> = {}): AheadWork => ({
    running: [pin("r1")],
    pins: () => Promise.resolve(offered === undefined ? undefined : [pin(offered)]),
    render: ([first], signal) =>
      new Promise((resolve, reject) => {
        const revision = first?.revision ?? "";
        events.push(`begins ${revision}`);
        running.set(revision, () => {
          events.push(`ends ${revision}`);
          resolve();
        });
        signal.addEventListener("abort", () => {
          events.push(`drops ${revision}`);
          reject(new Error("aborted"));
        });
      }),
    ...more,
  });
  return { events, work, end: (revision: string) => running.get(revision)?.() };
}

test("one at a time, and what the run is pinned to or nobody offers is not rendered", async () => {
  await using aheads = createAheadRenders({ clock: createManualClock() });
  const { events, work, end } = works();
  aheads.prepare(key("a"), work("r2"));
  aheads.prepare(key("b"), work("r3"));
  aheads.prepare(key("c"), work("r1"));
  aheads.prepare(key("d"), work(undefined));
  await settled();
  expect(events).toEqual(["begins r2"]);
  end("r2");
  await settled();
  expect(events).toEqual(["begins r2", "ends r2", "begins r3"]);
});

test("what is newer takes its place, what is the same leaves it alone", async () => {
  await using aheads = createAheadRenders({ clock: createManualClock() });
  const { events, work } = works();
  aheads.prepare(key("a"), work("r2"));
  await settled();
  aheads.prepare(key("a"), work("r2"));
  await settled();
  expect(events).toEqual(["begins r2"]);
  aheads.prepare(key("a"), work("r3"));
  await settled();
  expect(events).toEqual(["begins r2", "drops r2", "begins r3"]);
  aheads.abandon(key("a"));
  await settled();
  expect(events).toEqual(["begins r2", "drops r2", "begins r3", "drops r3"]);
});

test("back at what the run is pinned to, nothing is rendered any more", async () => {
  await using aheads = createAheadRenders({ clock: createManualClock() });
  const { events, work } = works();
  aheads.prepare(key("a"), work("r2"));
  await settled();
  aheads.prepare(key("a"), work("r1"));
  await settled();
  expect(events).toEqual(["begins r2", "drops r2"]);
});

test("abandoned while it is found out what there is, neither the older nor the newer one goes on", async () => {
  await using aheads = createAheadRenders({ clock: createManualClock() });
  const { events, work } = works();
  const slow = Promise.withResolvers<readonly Pin[]>();
  aheads.prepare(key("a"), work("r2"));
  await settled();
  aheads.prepare(key("a"), work("r3", { pins: () => slow.promise }));
  aheads.abandon(key("a"));
  slow.resolve([pin("r3")]);
  await settled();
  expect(events).toEqual(["begins r2", "drops r2"]);
});

test("one that never ends, or fails, makes way for others", async () => {
  const clock = createManualClock();
  await using aheads = createAheadRenders({ clock });
  const { events, work } = works();
  aheads.prepare(key("a"), work("r2"));
  await settled();
  aheads.prepare(key("b"), work("r3", { pins: () => Promise.reject(new Error("unreadable")) }));
  await settled();
  clock.advance(2 * 60_000);
  await settled();
  aheads.prepare(key("c"), work("r4"));
  await settled();
  expect(events).toEqual(["begins r2", "drops r2", "begins r4"]);
});
