import type { Snapshot } from "../domain/pass/state.ts";
import { identityOf, type Pin } from "../domain/pins.ts";
import { sleep } from "../lib/clock.ts";
import { noSpan, silentLogger } from "../lib/telemetry.ts";
import { askedNothing } from "../kms/share-opener.ts";
import type { Engine } from "./engine.ts";
import { readPins } from "./facts/pins.ts";
import { readRender } from "./facts/render.ts";
import type { StageSetKey } from "./journal.ts";
import type { Pass } from "./pass.ts";
import { createPassReport } from "./report.ts";
import { createSession } from "./session.ts";

/** How soon a busy controller is looked at again, ms. */
const busyMs = 250;

/**
 * Renders what the sources of a waiting run offer by now, so that the next run starts from memory (spec 20 §16.5): fetched,
 * verified, built and kept as that run would do it, under the same identities and keys. It decides and records nothing and
 * takes no pass's place: it goes on only while no pass waits for one, and builds in the background of the compute pool.
 */
export function renderAhead(
  engine: Engine,
  { key, snapshot }: { readonly key: StageSetKey; readonly snapshot: Snapshot },
  running: readonly Pin[],
): void {
  const pass = shadowOf(key, snapshot);
  const quiet = inBackground(engine);
  engine.aheads.prepare(key, {
    running,
    pins: async (signal) => {
      const fact = await readPins(quiet, pass, signal);
      return fact.kind === "pins" ? fact.pins : undefined;
    },
    render: async (pins, signal) => {
      for (const [index, { name: stage }] of (snapshot.spec?.stages ?? []).entries()) {
        const pin = pins[index];
        while (engine.isBusy()) await sleep(engine.clock, busyMs, signal);
        if (pin === undefined || !isAsIs(engine, pass)) return;
        await readRender(quiet, pass, { kind: "render", stage, identity: identityOf(pin), pin, at: "stage" }, signal);
      }
    },
  });
}

/** A pass that only reads, and remembers and tells nothing. */
function shadowOf(key: StageSetKey, snapshot: Snapshot): Pass {
  return {
    key,
    snapshot,
    session: createSession(),
    causes: new Set(),
    facts: new Map(),
    results: { stages: new Map(), deletes: new Map(), recordFailure: undefined },
    report: createPassReport(),
    logger: silentLogger,
    span: noSpan,
    connections: new Map(),
    looked: new Map(),
    kmsCalls: askedNothing(),
    looksAhead: new Map(),
    judged: new Set(),
  };
}

/** The same caches and identities; its builds give way to those of passes. */
function inBackground(engine: Engine): Engine {
  return {
    ...engine,
    renders: { ...engine.renders, get: (key, build) => engine.renders.getAhead(key, build) },
    compute: {
      run: (job, input, o) => engine.compute.run(job, input, { ...o, background: true }),
      retireIdle: () => engine.compute.retireIdle(),
      reconsider: () => engine.compute.reconsider(),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    },
    aheads: { prepare() {}, abandon() {}, [Symbol.asyncDispose]: () => Promise.resolve() },
  };
}

function isAsIs(engine: Engine, { key, snapshot }: Pass): boolean {
  const now = engine.journal.object(key)?.metadata;
  return now?.uid === snapshot.uid && now.generation === snapshot.generation && now.deletionTimestamp === undefined;
}
