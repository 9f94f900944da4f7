import { asText, at } from "../../lib/json.ts";

/**
 * When a controller last renewed one of these Leases, epoch ms; undefined: nobody is seen to hold one. One that was given
 * up tells nothing: whoever gave it up has stopped, or runs on without leader election.
 */
export function leaseRenewedAt(leases: readonly unknown[]): number | undefined {
  const times = leases
    .filter((lease) => (asText(at(lease, "spec", "holderIdentity")) ?? "") !== "")
    .map((lease) => Date.parse(asText(at(lease, "spec", "renewTime")) ?? ""))
    .filter((time) => Number.isFinite(time));
  return times.length === 0 ? undefined : Math.max(...times);
}
