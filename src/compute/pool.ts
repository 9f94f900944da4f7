import { availableParallelism } from "node:os";
import { Worker, type Transferable } from "node:worker_threads";
import { Shutdown } from "../lib/abort.ts";
import { abortReason } from "../lib/abort-reason.ts";
import type { Clock } from "../lib/clock.ts";
import { ComputeError } from "./compute-error.ts";
import type { CpuUsage, JobReply, JobRequest } from "./job.ts";

export interface RunOptions {
  /** Aborting drops a waiting job and kills the worker of a running one. */
  readonly signal: AbortSignal;
  /**
   * From the start of the job, not from the call: waiting for a worker does not count. A job that others keep from the
   * processor has up to {@link mostPatience} times as long.
   */
  readonly timeoutMs: number;
  /** Jobs of one queue (a namespace) start in order; queues take turns. */
  readonly queue: string;
  /** Needs much memory: one such job runs at a time. */
  readonly exclusive?: boolean;
  /**
   * Nobody waits for it: it starts when no other job wants the worker, one at a time, and gives way to one that does,
   * failing as `Overloaded`.
   */
  readonly background?: boolean;
  readonly transfer?: readonly Transferable[];
}

/** Runs CPU-bound jobs off the event loop, in workers that can be killed. */
export interface ComputePool extends AsyncDisposable {
  /**
   * @throws {ComputeError} `TimedOut`, `Crashed`, `OutOfMemory`, `Failed`, `Overloaded`
   * @throws the signal's reason, when aborted; {@link Shutdown} when the pool is disposed
   */
  run(job: string, input: unknown, o: RunOptions): Promise<unknown>;
  /** Ends the workers that have no job now. */
  retireIdle(): void;
  /** `mayBegin` has become true. */
  reconsider(): void;
}

/** Per worker; code, buffers and WebAssembly memory come on top. */
const workerHeapMiB = 512;
/** Jobs waiting for a worker; each caller waits for its own, so this many means a leak. */
const mostWaiting = 4_096;

/** On a busy machine, or where the container is throttled, what is quick takes long. */
const mostPatience = 4;

/** An idle worker holds its heap and what it compiled, 20 to 150 MB; starting one anew costs about 0.1 s. */
const defaultIdleMs = 60_000;

/**
 * Starts no worker until a job needs one, and ends those that had no job for `idleMs`, default a minute. `workerUrl` is a module that calls `serveJobs`.
 * Default size: the processors, at least 1 and at most 4. While `mayBegin` is false no job starts beside another.
 */
export function createComputePool(o: {
  readonly clock: Clock;
  readonly workerUrl: URL;
  readonly size?: number;
  readonly idleMs?: number;
  readonly mayBegin?: () => boolean;
}): ComputePool {
  return new WorkerPool({
    mayBegin: () => true,
    ...o,
    size: o.size ?? Math.max(1, Math.min(4, availableParallelism())),
    idleMs: o.idleMs ?? defaultIdleMs,
  });
}

interface Task {
  readonly job: string;
  readonly input: unknown;
  readonly options: RunOptions;
  readonly resolve: (output: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly onAbort: () => void;
}

interface Running {
  readonly id: number;
  readonly task: Task;
  timer: Disposable;
}

/** A worker and what it does: a slot is idle without `running`, and leaves the pool when its worker ends. */
interface Slot {
  readonly worker: Worker;
  /** Processor time of its worker up to its latest reply, ms. */
  usedMs: number;
  running: Running | undefined;
  /** Ends an idle worker. */
  retirement: Disposable | undefined;
  ending: Promise<unknown> | undefined;
}

class WorkerPool implements ComputePool {
  readonly #clock: Clock;
  readonly #workerUrl: URL;
  readonly #size: number;
  readonly #idleMs: number;
  readonly #mayBegin: () => boolean;
  readonly #slots = new Set<Slot>();
  /** In the order in which queues have their turn. */
  readonly #waiting = new Map<string, Task[]>();
  #waitingCount = 0;
  readonly #background: Task[] = [];
  #lastId = 0;
  #closed = false;

  constructor(o: {
    readonly clock: Clock;
    readonly workerUrl: URL;
    readonly size: number;
    readonly idleMs: number;
    readonly mayBegin: () => boolean;
  }) {
    this.#clock = o.clock;
    this.#workerUrl = o.workerUrl;
    this.#size = o.size;
    this.#idleMs = o.idleMs;
    this.#mayBegin = o.mayBegin;
  }

  run(job: string, input: unknown, options: RunOptions): Promise<unknown> {
    if (this.#closed) return Promise.reject(new Shutdown("the compute pool is closed"));
    if (options.signal.aborted) return Promise.reject(abortReason(options.signal));
    if (this.#waitingCount + this.#background.length >= mostWaiting)
      return Promise.reject(new ComputeError("Overloaded", `Cannot run job "${job}": ${mostWaiting} are waiting`));
    return new Promise((resolve, reject) => {
      const onAbort = (): void => this.#abort(task);
      const task: Task = { job, input, options, resolve, reject, onAbort };
      options.signal.addEventListener("abort", onAbort, { once: true });
      if (options.background === true) {
        this.#background.push(task);
        this.#dispatch();
        return;
      }
      const queue = this.#waiting.get(options.queue);
      if (queue === undefined) this.#waiting.set(options.queue, [task]);
      else queue.push(task);
      this.#waitingCount++;
      this.#dispatch();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    const waiting = [...[...this.#waiting.values()].flat(), ...this.#background.splice(0)];
    this.#waiting.clear();
    this.#waitingCount = 0;
    for (const task of waiting) this.#settle(task, () => task.reject(new Shutdown("the compute pool is closed")));
    await Promise.all([...this.#slots].map((slot) => this.#end(slot, new Shutdown("the compute pool is closed"))));
  }

  retireIdle(): void {
    for (const slot of this.#slots) if (slot.running === undefined) void this.#end(slot, new Shutdown("idle"));
  }

  reconsider(): void {
    this.#dispatch();
  }

  #dispatch(): void {
    for (;;) {
      if (this.#closed) return;
      if (!this.#mayBegin() && [...this.#slots].some((slot) => slot.running !== undefined)) {
        if (this.#waitingCount > 0) this.#makeWay("a worker");
        return;
      }
      const idle = this.#idle();
      const isFull = idle === undefined && this.#slots.size >= this.#size;
      const task = isFull ? undefined : (this.#next() ?? this.#nextInBackground());
      if (task === undefined) {
        if (this.#waitingCount > 0) this.#makeWay(isFull ? "a worker" : "memory");
        return;
      }
      this.#start(idle ?? this.#spawn(), task);
    }
  }

  /** Whatever waits goes first, also for the memory an exclusive job of the background has. */
  #nextInBackground(): Task | undefined {
    if (this.#waitingCount > 0 || !this.#mayBegin()) return undefined;
    const running = [...this.#slots].flatMap((slot) => slot.running?.task.options ?? []);
    if (running.some(({ background }) => background === true)) return undefined;
    const blocked = running.some(({ exclusive }) => exclusive === true);
    if (blocked && this.#background[0]?.options.exclusive === true) return undefined;
    return this.#background.shift();
  }

  #makeWay(wanted: "a worker" | "memory"): void {
    for (const slot of this.#slots) {
      const task = slot.running?.task;
      if (task?.options.background !== true || (wanted === "memory" && task.options.exclusive !== true)) continue;
      void this.#end(slot, new ComputeError("Overloaded", `Job "${task.job}" gave way to others`));
    }
  }

  #idle(): Slot | undefined {
    for (const slot of this.#slots) if (slot.running === undefined && slot.ending === undefined) return slot;
    return undefined;
  }

  /** The first task that may run; its queue goes to the end of the turn. */
  #next(): Task | undefined {
    const exclusiveRuns = [...this.#slots].some((slot) => slot.running?.task.options.exclusive === true);
    for (const [name, queue] of this.#waiting) {
      const index = queue.findIndex((task) => !exclusiveRuns || task.options.exclusive !== true);
      const [task] = index < 0 ? [] : queue.splice(index, 1);
      if (task === undefined) continue;
      this.#waiting.delete(name);
      if (queue.length > 0) this.#waiting.set(name, queue);
      this.#waitingCount--;
      return task;
    }
    return undefined;
  }

  #spawn(): Slot {
    const worker = new Worker(this.#workerUrl, {
      // Nothing of this process's environment or flags: what a job may know comes with its input.
      env: {},
      // `node:wasi` warns once per worker that it is experimental.
      execArgv: ["--disable-warning=ExperimentalWarning"],
      argv: [],
      resourceLimits: { maxOldGenerationSizeMb: workerHeapMiB },
    });
    const slot: Slot = { worker, usedMs: 0, running: undefined, retirement: undefined, ending: undefined };
    worker.on("message", (reply: JobReply) => this.#reply(slot, reply));
    worker.on("error", (error: unknown) => void this.#end(slot, crashOf(slot, error)));
    worker.on("exit", () => void this.#end(slot, crashOf(slot, undefined)));
    this.#slots.add(slot);
    return slot;
  }

  #start(slot: Slot, task: Task): void {
    const id = ++this.#lastId;
    slot.retirement?.[Symbol.dispose]();
    slot.retirement = undefined;
    const { timeoutMs, transfer = [] } = task.options;
    const running: Running = {
      id,
      task,
      timer: this.#clock.timer(timeoutMs, () => void this.#judge(slot, running, 1)),
    };
    slot.running = running;
    const request: JobRequest = { id, job: task.job, input: task.input };
    slot.worker.postMessage(request, transfer);
  }

  /**
   * After each `timeoutMs` by the clock: ends the job if it had the processor for half of that, else lets it go on, but for
   * the last time. A worker in a system call does not answer, so the next look does not depend on it.
   */
  async #judge(slot: Slot, running: Running, period: number): Promise<void> {
    const { job, options } = running.task;
    const { timeoutMs } = options;
    if (period < mostPatience) {
      running.timer = this.#clock.timer(timeoutMs, () => void this.#judge(slot, running, period + 1));
      // One that has ended is told of elsewhere.
      const usage = await slot.worker.cpuUsage().catch(() => undefined);
      if (usage === undefined || slot.running !== running || totalMs(usage) - slot.usedMs < timeoutMs / 2) return;
    }
    const message = `Job "${job}" took longer than ${timeoutMs / 1_000} s`;
    void this.#end(slot, new ComputeError("TimedOut", message));
  }

  #reply(slot: Slot, reply: JobReply): void {
    const { running } = slot;
    if (running?.id !== reply.id) return;
    slot.running = undefined;
    slot.usedMs = totalMs(reply.used);
    running.timer[Symbol.dispose]();
    const { task } = running;
    this.#settle(task, () => {
      if (reply.kind === "done") task.resolve(reply.output);
      else task.reject(new ComputeError("Failed", `Job "${task.job}" failed`, { cause: reply.error }));
    });
    this.#dispatch();
    this.#retireLater(slot);
  }

  #retireLater(slot: Slot): void {
    if (slot.running !== undefined || slot.ending !== undefined) return;
    slot.retirement = this.#clock.timer(this.#idleMs, () => void this.#end(slot, new Shutdown("idle")));
  }

  #abort(task: Task): void {
    const reason = abortReason(task.options.signal);
    for (const slot of this.#slots) if (slot.running?.task === task) return void this.#end(slot, reason);
    const later = this.#background.indexOf(task);
    if (later >= 0) {
      this.#background.splice(later, 1);
      this.#settle(task, () => task.reject(reason));
      return;
    }
    const { queue: name } = task.options;
    const queue = this.#waiting.get(name) ?? [];
    const index = queue.indexOf(task);
    if (index < 0) return;
    queue.splice(index, 1);
    this.#waitingCount--;
    if (queue.length === 0) this.#waiting.delete(name);
    this.#settle(task, () => task.reject(reason));
  }

  /** Fails what the slot's worker does and ends the worker. Its place is free once the worker is gone. */
  #end(slot: Slot, why: Error): Promise<unknown> {
    const { running } = slot;
    slot.running = undefined;
    slot.retirement?.[Symbol.dispose]();
    if (running !== undefined) {
      running.timer[Symbol.dispose]();
      this.#settle(running.task, () => running.task.reject(why));
    }
    slot.ending ??= slot.worker.terminate().finally(() => {
      this.#slots.delete(slot);
      this.#dispatch();
    });
    return slot.ending;
  }

  #settle(task: Task, run: () => void): void {
    task.options.signal.removeEventListener("abort", task.onAbort);
    run();
  }
}

function totalMs({ user, system }: CpuUsage): number {
  return (user + system) / 1_000;
}

function crashOf(slot: Slot, error: unknown): ComputeError {
  const job = `Job "${slot.running?.task.job ?? ""}"`;
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ERR_WORKER_OUT_OF_MEMORY") return new ComputeError("OutOfMemory", `${job} needs too much memory`);
  return new ComputeError("Crashed", `${job} ended its worker`, { cause: error });
}
