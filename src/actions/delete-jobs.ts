import { KubeError, isKubeError } from "../kube/error.ts";
import { deleteRequest } from "../kube/request.ts";
import type { Access } from "../identity/access.ts";
import { IdentityError } from "../identity/identity-error.ts";
import { sleep, type Clock } from "../lib/clock.ts";
import type { CreatedJob } from "./context.ts";
import { jobs as jobKind } from "./job.ts";

/** Tries of one Job; between two of them the wait doubles from the first. */
const mostTries = 6;
const firstWaitMs = 1_000;

/** Deletes Jobs that are done with, each only if it still is the one that was created. It never rejects. */
export async function deleteJobs(
  { jobs, access }: { readonly jobs: readonly CreatedJob[]; readonly access: (signal: AbortSignal) => Promise<Access> },
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<void> {
  for (const job of jobs)
    for (let attempt = 0; attempt < mostTries; attempt++) {
      try {
        if (attempt > 0) await sleep(clock, firstWaitMs * 2 ** (attempt - 1), signal);
        const { client } = await access(signal);
        await client.send(deleteRequest(jobKind, { ...job, propagation: "Background" }), { signal });
        break;
      } catch (error) {
        if (signal.aborted || isKubeError(error, "NotFound", "Conflict", "Forbidden")) break;
        if (!(error instanceof KubeError) && !(error instanceof IdentityError)) break;
      }
    }
}
