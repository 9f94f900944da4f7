import { expect, test } from "vitest";
import { leaseRenewedAt } from "./lease.ts";

const lease = (holderIdentity: string | undefined, renewTime: string | undefined) => ({
  spec: { holderIdentity, renewTime },
});

test.each<[string, readonly unknown[], string | undefined]>([
  ["none is there", [], undefined],
  ["one that is held", [lease("a", "2026-03-01T11:00:00.000000Z")], "2026-03-01T11:00:00Z"],
  ["one that was given up tells nothing", [lease("", "2026-03-01T11:00:00.000000Z")], undefined],
  [
    "nor one without a holder, a time or anything",
    [lease(undefined, "2026-03-01T11:00:00Z"), lease("a", "?"), 7],
    undefined,
  ],
  [
    "of several the newest that is held",
    [
      lease("a", "2026-03-01T11:00:00.000000Z"),
      lease("b", "2026-03-01T11:30:00.000000Z"),
      lease("", "2026-03-01T11:45:00.000000Z"),
    ],
    "2026-03-01T11:30:00Z",
  ],
])("%s", (_name, leases, wanted) => {
  expect(leaseRenewedAt(leases)).toBe(wanted === undefined ? undefined : Date.parse(wanted));
});
