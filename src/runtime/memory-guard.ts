import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/telemetry.ts";

export interface MemoryReading {
  /** What the process group holds and the kernel cannot take back. */
  readonly usedBytes: number;
  readonly limitBytes: number;
}

/** 0: there is room; 1: caches were dropped; 2: new passes wait. */
export type MemoryPressure = 0 | 1 | 2;

/** Keeps the process below the memory it may use (spec 60 §13): first caches go, then new work waits for old work. */
export interface MemoryGuard extends Disposable {
  /** Whether more work that takes memory may begin beside what is under way. Work begins when nothing is under way. */
  mayBegin(): boolean;
  readonly pressure: MemoryPressure;
}

export interface MemoryGuardOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Undefined: nothing limits this process, or nobody can tell. Called twice a second, so it must be quick. */
  readonly read: () => MemoryReading | undefined;
  /** Drops what can be had again. Called when memory begins to be short, and again every {@link shedAgainMs} while it is. */
  readonly shed: () => void;
  /** New work may begin again. */
  readonly onRoom: () => void;
}

/** Half of a second of one core allocates some 100 MB at most: what is left above {@link waitAt} takes that. */
const lookEveryMs = 500;

/** Parts of the limit. Between `roomAt` and `waitAt` things stay as they are, so that work does not start and stop in turns. */
const shedAt = 0.7;
const waitAt = 0.8;
const roomAt = 0.7;

/** A collection that does not help must not be repeated without end: it stops the process for 0.1 to 1 s. */
const shedAgainMs = 30_000;

export function createMemoryGuard(options: MemoryGuardOptions): MemoryGuard {
  const { clock, logger, read, shed, onRoom } = options;
  let pressure: MemoryPressure = 0;
  let shedAtMs = -Infinity;
  let timer: Disposable;
  const look = (): void => {
    timer = clock.timer(lookEveryMs, look);
    const reading = read();
    if (reading === undefined) return;
    const used = reading.usedBytes / reading.limitBytes;
    if (used >= shedAt && clock.monotonic() - shedAtMs >= shedAgainMs) {
      shedAtMs = clock.monotonic();
      shed();
    }
    const waited = pressure === 2;
    const waits = used >= waitAt || (waited && used >= roomAt);
    pressure = waits ? 2 : used >= shedAt ? 1 : 0;
    const figures = { usedMiB: mebibytes(reading.usedBytes), limitMiB: mebibytes(reading.limitBytes) };
    if (waits && !waited)
      logger.warn(
        "memory is nearly full: new passes wait for those under way; give the controller more memory",
        figures,
      );
    if (!waits && waited) {
      logger.info("memory is free again: passes begin as usual", figures);
      onRoom();
    }
  };
  timer = clock.timer(lookEveryMs, look);
  return {
    mayBegin: () => pressure < 2,
    get pressure() {
      return pressure;
    },
    [Symbol.dispose]: () => timer[Symbol.dispose](),
  };
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 1024 / 1024);
}
