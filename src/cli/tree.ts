import type { StagePage, StageSetPage } from "../domain/why/view.ts";
import { ago } from "../domain/why/stage-cause.ts";
import { printable } from "./text.ts";

export interface TreeOptions {
  /** Epoch ms. */
  readonly now: number;
  readonly objects: "unready" | "none";
  /** Characters of a line; what is longer is cut. */
  readonly columns: number;
}

const mostObjects = 10;

/** A StageSet with its stages as a tree (spec 70 §9.3). */
export function renderTree(page: StageSetPage, options: TreeOptions): string {
  const { now } = options;
  const version = page.pendingVersion === undefined ? page.version : `${page.version ?? "-"} → ${page.pendingVersion}`;
  const head = [
    `${page.namespace}/${page.name}`,
    page.ready.reason || "Unknown",
    version ?? "",
    // Of False it says nothing about the reason: that may be younger.
    page.ready.status === "False" ? "" : ago(page.ready.since, now),
  ];
  const width = Math.max(0, ...page.stages.map(({ name }) => name.length));
  const lines = [head.filter((part) => part !== "").join("   ")];
  for (const [index, stage] of page.stages.entries()) {
    const isLast = index === page.stages.length - 1;
    lines.push(`${isLast ? "└─" : "├─"} ${stageLine(stage, { width, now, page })}`);
    if (options.objects === "none") continue;
    const shown = stage.objects.slice(0, mostObjects);
    for (const [place, { kind, name, status, message }] of shown.entries())
      lines.push(
        `${isLast ? " " : "│"}    ${place === shown.length - 1 ? "└─" : "├─"} ${kind}/${name}   ${message === "" ? status : message}`,
      );
  }
  return lines.map((line) => `${cut(printable(line), options.columns)}\n`).join("");
}

function stageLine(
  stage: StagePage,
  { width, now, page }: { readonly width: number; readonly now: number; readonly page: StageSetPage },
): string {
  const phase = phaseOf(stage);
  const { cause } = page.why;
  const isBlocking = cause?.stage === stage.name;
  const until = stage.gate?.until ?? (isBlocking ? cause.until : undefined);
  const parts = [
    `${symbolOf(stage)} ${stage.name.padEnd(width)}`,
    phase.padEnd(9),
    stage.entries === undefined ? "" : `${stage.entries} objects`,
    stage.phase === "Ready" ? "" : ago(stage.waitingSince, now),
    until === undefined ? "" : untilText(stage, { until, now }),
    stage.message ?? "",
  ];
  return parts
    .filter((part) => part !== "")
    .join("  ")
    .trimEnd();
}

function untilText(stage: StagePage, { until, now }: { readonly until: string; readonly now: number }): string {
  const left = Date.parse(until) - now;
  const text = left <= 0 ? "any moment" : ago(new Date(now).toISOString(), now + left);
  return stage.phase === "Ready" ? `until ${until} (in ${text})` : `times out in ${text}`;
}

/** The phase of the stage, or of its gate while that holds. */
export function phaseOf({ phase, gate }: StagePage): string {
  return phase === "Ready" && gate !== undefined && gate.phase !== "Promoted" ? gate.phase : phase;
}

function symbolOf(stage: StagePage): string {
  const phase = phaseOf(stage);
  if (phase === "Ready") return "✔";
  if (phase === "Failed" || phase === "Blocked") return "✖";
  if (phase === "Pending") return "·";
  return stage.phase === "Ready" ? "⏸" : "◐";
}

function cut(line: string, columns: number): string {
  const characters = Array.from(line);
  return characters.length <= columns ? line : `${characters.slice(0, Math.max(1, columns - 1)).join("")}…`;
}
