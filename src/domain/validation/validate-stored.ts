import { parseStageSet } from "../../api/stage-set.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import { renderFinding } from "./finding.ts";
import { nameLengthFindings } from "./stages.ts";
import { aboutReadItems } from "./unread-items.ts";
import { validateStageSet } from "./validate-stage-set.ts";

const mostListed = 20;

/** Settings of the process that decide about stored specs. */
export interface StoredOptions {
  readonly crossNamespace: "allowed" | "refused";
  readonly allowLoopback: boolean;
}

/**
 * Why a stored StageSet cannot be run: every violation of its schema and every `deny` of the rules, the first 20 and
 * how many more there are. The same object gives the same text; undefined when there is none.
 */
export function validateStored(object: KubeObject, options: StoredOptions): string | undefined {
  const parsed = parseStageSet(object);
  const violations = parsed.kind === "invalid" ? parsed.violations : [];
  const readable = parsed.kind === "valid" ? parsed.value : parsed.readable;
  const { name, namespace = "" } = object.metadata;
  const found = readable === undefined ? [] : validateStageSet(readable.spec, { name, namespace, ...options });
  const findings = [
    ...nameLengthFindings(name),
    ...(parsed.kind === "valid" ? found : aboutReadItems(found, { stored: object["spec"], read: readable?.spec })),
  ];
  return joinViolations([
    ...violations.map((violation) => renderFinding({ ...violation, subject: "" })),
    ...findings.filter(({ severity }) => severity === "deny").map(renderFinding),
  ]);
}

/** One text of at most 20 violations and the count of the others; undefined when there is none. */
export function joinViolations(violations: readonly string[]): string | undefined {
  if (violations.length === 0) return undefined;
  const listed = violations.slice(0, mostListed);
  const more = violations.length - listed.length;
  return [...listed, ...(more > 0 ? [`and ${more} more`] : [])].join("; ");
}
