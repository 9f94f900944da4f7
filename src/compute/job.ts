/** What a job gives back; `transfer` lists buffers inside `output` that move instead of being copied. */
export interface JobResult {
  readonly output: unknown;
  readonly transfer?: readonly ArrayBuffer[];
}

/** Runs inside a worker. Expected failures are part of the output: what is thrown counts as a bug. */
export type Job = (input: unknown) => JobResult | Promise<JobResult>;

/** Pool → worker. */
export interface JobRequest {
  readonly id: number;
  readonly job: string;
  readonly input: unknown;
}

/** Processor time of a worker since it started, microseconds. */
export interface CpuUsage {
  readonly user: number;
  readonly system: number;
}

/** Worker → pool. */
export type JobReply = { readonly id: number; readonly used: CpuUsage } & (
  | { readonly kind: "done"; readonly output: unknown }
  | {
      readonly kind: "failed";
      /** Class of what was thrown and where; not its message, which may quote the input. */
      readonly error: string;
    }
);
