import { connect } from "node:net";
import { describe, expect, test } from "vitest";
import { createAssets } from "../../src/http/ui/assets.ts";
import { createOpenCallers } from "../../src/http/ui/callers.ts";
import type { UiView } from "../../src/http/ui/ui-view.ts";
import { createUi, uiBounds, uiHeaders } from "../../src/http/ui/ui.ts";
import { listen, type Listener } from "../../src/http/server.ts";
import { createManualClock, type ManualClock } from "../../src/lib/clock.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { silentLogger } from "../../src/lib/telemetry.ts";
import { eventually } from "../support/eventually.ts";

/** Rows that are together far more than kernels buffer for one connection. */
const rows = 2_000;
const version = "1".repeat(20 * 1024);
const stageSets = Array.from({ length: rows }, (_, index): KubeObject => {
  const metadata = { name: `s${index}`, namespace: "shop", generation: 1 };
  return {
    apiVersion: "stages.metio.wtf/v1",
    kind: "StageSet",
    metadata,
    status: { observedGeneration: 1, version },
  };
});

/** The UI behind its listener, at a clock that stands: what the listener's own bounds would end does not end. */
async function serve(clock: ManualClock): Promise<{ readonly listener: Listener; readonly ui: Disposable }> {
  const view: UiView = {
    isSynced: () => true,
    stageSets: () => stageSets,
    stageSet: (_namespace, name) => stageSets[Number(name.slice(1))],
    fleets: () => [],
    fleet: () => undefined,
    input: (stageSet) => ({ stageSet, now: clock.now() }),
    subscribe: () => ({ [Symbol.dispose]: () => undefined }),
  };
  const assets = createAssets(new Map());
  const ui = createUi({ view, callers: createOpenCallers(), assets, clock, logger: silentLogger });
  const listener = await listen({
    host: "127.0.0.1",
    port: 0,
    handler: ui.handler,
    headers: uiHeaders,
    clock,
    logger: silentLogger,
    ...uiBounds,
  });
  return { listener, ui };
}

/** A stream that is read from the moment it is told to. */
function follow({ address }: Listener, { isReading }: { readonly isReading: boolean }) {
  const socket = connect({ port: address.port, host: "127.0.0.1" });
  let bytes = 0;
  let end = "";
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  const read = (): void => {
    socket.on("data", (chunk: Buffer) => {
      bytes += chunk.byteLength;
      end = (end + chunk.toString("latin1")).slice(-200);
    });
  };
  socket.on("error", () => undefined).write("GET /api/v1/watch HTTP/1.1\r\nHost: ui\r\n\r\n");
  if (isReading) read();
  return { read, closed, bytes: () => bytes, end: () => end };
}

/** Lets what is due now happen, and no time pass. */
function due(clock: ManualClock, isSo: () => boolean): Promise<unknown> {
  return eventually(
    () => {
      clock.advance(0);
      return isSo();
    },
    { timeoutMs: 60_000 },
  );
}

describe("streams of the web UI", () => {
  test("end with their listener, without waiting for its bound of answers in flight", async () => {
    const clock = createManualClock();
    const { listener, ui } = await serve(clock);
    const stream = follow(listener, { isReading: true });
    await due(clock, () => stream.end().includes("event: synced"));
    await listener[Symbol.asyncDispose]();
    ui[Symbol.dispose]();
    await stream.closed;
  });

  test("whose client reads nothing hold up neither others nor the end", async () => {
    const clock = createManualClock();
    const { listener, ui } = await serve(clock);
    const slow = follow(listener, { isReading: false });
    const other = follow(listener, { isReading: true });
    await due(clock, () => other.end().includes("event: synced"));
    expect(other.bytes()).toBeGreaterThan(rows * version.length);
    await listener[Symbol.asyncDispose]();
    ui[Symbol.dispose]();
    slow.read();
    await slow.closed;
    // It was in the middle of what there is.
    expect(slow.bytes()).toBeLessThan(rows * version.length);
  });
});
