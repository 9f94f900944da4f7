/** @typedef {import("./dom.js").IconName} IconName */

/** @type {Readonly<Record<import("../src/domain/why/cause.ts").WhyState, string>>} */
export const stateLabel = { ok: "OK", waiting: "Waiting", failing: "Failing", stale: "Stale" };

/** @type {Readonly<Record<import("../src/domain/why/cause.ts").CauseKind, string>>} */
export const kindLabel = {
  controller: "Controller",
  deleting: "Deletion",
  suspended: "Suspended",
  spec: "Spec",
  dependency: "Dependency",
  source: "Source",
  rollback: "Rollback",
  window: "Update window",
  budget: "Error budget",
  connection: "Connection and rights",
  version: "Version",
  migration: "Migration",
  approval: "Approval",
  preflight: "Preflight",
  preAction: "Action before",
  image: "Image verification",
  apply: "Apply",
  verify: "Readiness",
  postAction: "Action after",
  promotion: "Promotion gate",
  prune: "Pruning",
};

/** A wait for readiness does not end by itself: its time is up. @param {import("../src/domain/why/cause.ts").CauseKind} kind */
export function endLabel(kind) {
  return kind === "verify" ? "Times out in" : "Ends in";
}

/**
 * @param {string} phase
 * @param {string | undefined} gate
 * @returns {IconName}
 */
export function phaseIcon(phase, gate) {
  if (phase === "Failed" || gate === "Blocked") return "failing";
  if (phase === "Ready") return gate === undefined || gate === "Promoted" ? "ok" : "paused";
  return phase === "Pending" ? "pending" : "working";
}

/** @param {{ readonly version?: string, readonly pendingVersion?: string }} of */
export function versionText({ version, pendingVersion }) {
  if (pendingVersion === undefined) return version ?? "–";
  return `${version ?? "–"} → ${pendingVersion}`;
}

/** A revision is long; its name and the beginning of its hash tell it. @param {string} revision */
export function shortRevision(revision) {
  return revision.replace(/([0-9a-f]{10})[0-9a-f]{20,}/g, "$1…");
}
