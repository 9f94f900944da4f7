import { hasRunbookLink, readyReasons, runbookId, type ReadyReason } from "./reasons.ts";

/** Pages about what the controller as a whole may suffer from; alerts link to them (spec 60 §16). */
export const signalRunbooks = [
  "teardown-forced",
  "controller-pod-down",
  "no-leader",
  "workqueue-saturation",
  "memory-pressure",
  "reconcile-latency",
  "webhook-cert-renewal",
  "webhook-down",
  "watch-engagement",
  "waiting-too-long",
  "inventory-corrupt",
  "fleet-halted",
] as const;

export type SignalRunbook = (typeof signalRunbooks)[number];

/** Reasons that have a page: every one but `Progressing`, with which no pass ends. */
export const reasonsWithRunbook = (Object.keys(readyReasons) as readonly ReadyReason[]) // The keys of a literal.
  .filter((reason) => reason !== "Progressing");

/** Ids of all pages, `docs/runbooks/<id>.md`. */
export const runbookIds: readonly string[] = [...reasonsWithRunbook.map(runbookId), ...signalRunbooks];

/**
 * The link to a page: `{id}` of the base is replaced, else `/<id>.md` appended. An empty base means no links.
 */
export function runbookLink(base: string | undefined, id: string): string | undefined {
  if (base === undefined || base === "") return undefined;
  return base.includes("{id}") ? base.replaceAll("{id}", id) : `${base.replace(/\/+$/, "")}/${id}.md`;
}

/** The link that ends the Ready messages of a reason; undefined where a reason needs none. */
export function reasonLink(base: string | undefined, reason: ReadyReason): string | undefined {
  return hasRunbookLink(reason) ? runbookLink(base, runbookId(reason)) : undefined;
}
