import type { StageSet } from "../../api/stage-set.ts";
import { parseStageSet } from "../../api/stage-set.ts";
import type { Violation } from "../../api/parse.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import { expressionFindings } from "./expressions.ts";
import { type Finding, renderFinding } from "./finding.ts";
import { nameLengthFindings } from "./stages.ts";
import { aboutReadItems } from "./unread-items.ts";
import { validateStageSet } from "./validate-stage-set.ts";

const mostListed = 20;

/** Settings of the process that decide about stored specs. */
export interface StoredOptions {
  readonly crossNamespace: "allowed" | "refused";
  readonly allowLoopback: boolean;
}

/** Settings of the process, and what the rules ask of others. */
export interface ReviewOptions extends StoredOptions {
  /** As in `ValidationContext`. */
  readonly isAllowedHost?: (host: string) => boolean;
  /** V3: whether the name is checked, too. */
  readonly checkName: boolean;
  /** As in `ValidationContext`. */
  readonly now?: number;
  /** Why an expression cannot be used; undefined: it can, or nobody compiled it. */
  readonly expressionProblem?: (expression: string) => string | undefined;
}

/** What is wrong with an object, and what is merely odd; each a line that begins with a field path. */
export interface Review {
  readonly violations: readonly string[];
  readonly warnings: readonly string[];
}

/** Everything that can be said about a StageSet as it is sent or stored, whatever it holds (spec 10 §12). */
export function reviewStageSet(object: KubeObject, options: ReviewOptions): Review {
  const parsed = parseStageSet(object);
  const violations = parsed.kind === "invalid" ? parsed.violations : [];
  const readable = parsed.kind === "valid" ? parsed.value : parsed.readable;
  const found = readable === undefined ? [] : specFindings(readable, options);
  return renderReview(violations, [
    ...(options.checkName ? nameLengthFindings(object.metadata.name) : []),
    ...(parsed.kind === "valid" ? found : aboutReadItems(found, { stored: object["spec"], read: readable?.spec })),
  ]);
}

function specFindings({ metadata, spec }: StageSet, options: ReviewOptions): readonly Finding[] {
  const { crossNamespace, allowLoopback, isAllowedHost, now, expressionProblem } = options;
  const { name, namespace = "" } = metadata;
  return [
    ...validateStageSet(spec, {
      name,
      namespace,
      crossNamespace,
      allowLoopback,
      ...(isAllowedHost === undefined ? {} : { isAllowedHost }),
      ...(now === undefined ? {} : { now }),
    }),
    ...(expressionProblem === undefined ? [] : expressionFindings(spec, expressionProblem)),
  ];
}

/** The lines of what the schema and the rules found. */
export function renderReview(violations: readonly Violation[], findings: readonly Finding[]): Review {
  const lines = (severity: Finding["severity"]): readonly string[] =>
    findings.filter((finding) => finding.severity === severity).map(renderFinding);
  return {
    violations: [...violations.map((violation) => renderFinding({ ...violation, subject: "" })), ...lines("deny")],
    warnings: lines("warn"),
  };
}

/**
 * Why a stored StageSet cannot be run: every violation of its schema and every `deny` of the rules, the first 20 and
 * how many more there are. The same object gives the same text; undefined when there is none.
 */
export function validateStored(object: KubeObject, options: StoredOptions): string | undefined {
  return joinViolations(reviewStageSet(object, { ...options, checkName: true }).violations);
}

/** One text of at most 20 violations and the count of the others; undefined when there is none. */
export function joinViolations(violations: readonly string[]): string | undefined {
  if (violations.length === 0) return undefined;
  const listed = violations.slice(0, mostListed);
  const more = violations.length - listed.length;
  return [...listed, ...(more > 0 ? [`and ${more} more`] : [])].join("; ");
}
