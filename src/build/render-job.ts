import type { JobResult } from "../compute/job.ts";
import { renderArtifact, type Rendered, type RenderInput } from "./render-tree.ts";

/** The name under which workers run {@link renderJob}. */
export const renderJobName = "build";

/** {@link renderArtifact} as a job: all bodies move in one buffer. */
export async function renderJob(input: unknown): Promise<JobResult> {
  // What `buildStage` posted, cloned.
  const rendered = await renderArtifact(input as RenderInput);
  if (rendered.kind !== "rendered") return { output: rendered };
  const { output, buffer } = pack(rendered);
  return { output, transfer: [buffer] };
}

function pack(rendered: Extract<Rendered, { kind: "rendered" }>): {
  readonly output: Rendered;
  readonly buffer: ArrayBuffer;
} {
  const size = rendered.drafts.reduce((sum, draft) => sum + draft.head.byteLength + draft.tail.byteLength, 0);
  const buffer = new ArrayBuffer(size);
  const bytes = new Uint8Array(buffer);
  let end = 0;
  const move = (part: Uint8Array): Uint8Array => {
    bytes.set(part, end);
    end += part.byteLength;
    return bytes.subarray(end - part.byteLength, end);
  };
  const drafts = rendered.drafts.map((draft) => ({ ...draft, head: move(draft.head), tail: move(draft.tail) }));
  return { output: { ...rendered, drafts }, buffer };
}
