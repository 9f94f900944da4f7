import type { Memory, PassState } from "./state.ts";

/** What watches vouch for, and fingerprints prove, is looked at with dry runs this often (spec 20 §16.1). */
export const auditEveryMs = 60 * 60_000;

/** Whether this pass takes nothing on trust. The first one after a start knows nothing it could trust. */
export function isAuditDue({ memory, elapsed }: Pick<PassState, "memory" | "elapsed">): boolean {
  return memory.auditedAt !== undefined && elapsed - memory.auditedAt >= auditEveryMs;
}

/** When everything was last dry-run, after a pass that succeeded; a release dry-runs what it applies. */
export function auditedMemory(state: PassState): Pick<Memory, "auditedAt"> {
  const { memory, elapsed } = state;
  return memory.auditedAt === undefined || isAuditDue(state) ? { auditedAt: elapsed } : { auditedAt: memory.auditedAt };
}
