import type { Clock } from "./clock.ts";

/** The process is stopping: work is abandoned, nothing is recorded as failed. */
export class Shutdown extends Error {
  override name = "Shutdown";
}

/** A wait ran past its bound; `what` names the wait. */
export class DeadlineExceeded extends Error {
  override name = "DeadlineExceeded";
  readonly timeoutMs: number;
  constructor(what: string, timeoutMs: number) {
    super(`${what} took longer than ${timeoutMs} ms`);
    this.timeoutMs = timeoutMs;
  }
}

/** A signal that follows its parents until disposed; disposing detaches it from them and does not abort it. */
export interface LinkedSignal extends Disposable {
  readonly signal: AbortSignal;
  abort(reason: Error): void;
}

/** Follows every given parent; the first to abort wins, with its reason. */
export function linkSignals(...parents: readonly (AbortSignal | undefined)[]): LinkedSignal {
  const controller = new AbortController();
  const detach: (() => void)[] = [];
  for (const parent of parents) {
    if (parent === undefined) continue;
    if (parent.aborted) {
      controller.abort(parent.reason);
      break;
    }
    const follow = (): void => controller.abort(parent.reason);
    parent.addEventListener("abort", follow, { once: true });
    detach.push(() => parent.removeEventListener("abort", follow));
  }
  return {
    signal: controller.signal,
    abort: (reason) => controller.abort(reason),
    [Symbol.dispose]: () => {
      for (const run of detach) run();
    },
  };
}

/** A signal that aborts with {@link DeadlineExceeded} after `timeoutMs`, or with the parent's reason before. */
export function deadline(
  clock: Clock,
  { timeoutMs, what, parent }: { readonly timeoutMs: number; readonly what: string; readonly parent?: AbortSignal },
): LinkedSignal {
  const linked = linkSignals(parent);
  const timer = clock.timer(timeoutMs, () => linked.abort(new DeadlineExceeded(what, timeoutMs)));
  return {
    signal: linked.signal,
    abort: (reason) => linked.abort(reason),
    [Symbol.dispose]: () => {
      timer[Symbol.dispose]();
      linked[Symbol.dispose]();
    },
  };
}
