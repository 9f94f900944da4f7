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

/** Worker → pool. */
export type JobReply =
  | { readonly id: number; readonly kind: "done"; readonly output: unknown }
  | {
      readonly id: number;
      readonly kind: "failed";
      /** Class of what was thrown and where; not its message, which may quote the input. */
      readonly error: string;
    };
