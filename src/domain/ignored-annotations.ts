import {
  approvedVersionAnnotation,
  baselineVersionAnnotation,
  budgetOverrideAnnotation,
  maxTokenBytes,
  preflightAnnotation,
  promoteAnnotation,
  reconcileStageAnnotation,
  requestedAtAnnotation,
  resetScopeAnnotation,
  rollbackToAnnotation,
  updateNowAnnotation,
} from "../api/keys.ts";
import { parseVersion } from "./formats/version.ts";

/** An annotation of a StageSet that means nothing, and why. */
export interface IgnoredAnnotation {
  readonly key: string;
  readonly why: string;
}

type Check = (value: string, stages: ReadonlySet<string>) => string | undefined;

const checks: readonly (readonly [key: string, check: Check])[] = [
  [requestedAtAnnotation, tooLong],
  [updateNowAnnotation, tooLong],
  [budgetOverrideAnnotation, tooLong],
  [resetScopeAnnotation, tooLong],
  [reconcileStageAnnotation, notOfStage],
  [promoteAnnotation, notOfStage],
  [approvedVersionAnnotation, noVersion],
  [rollbackToAnnotation, noVersion],
  [baselineVersionAnnotation, noVersion],
  [preflightAnnotation, noSwitch],
];

/** What a StageSet is annotated with in vain; an empty value is none. Never says the value: it may be of any length. */
export function ignoredAnnotations(
  annotations: Readonly<Record<string, string>>,
  stages: ReadonlySet<string>,
): readonly IgnoredAnnotation[] {
  return checks.flatMap(([key, check]) => {
    const value = annotations[key] ?? "";
    const why = value === "" ? undefined : check(value, stages);
    return why === undefined ? [] : [{ key, why }];
  });
}

/** The token of an annotation; undefined when there is none that counts. */
export function tokenOf(value: string | undefined): string | undefined {
  return value === undefined || value === "" || tooLong(value) !== undefined ? undefined : value;
}

function tooLong(token: string): string | undefined {
  return Buffer.byteLength(token) > maxTokenBytes ? `the token is longer than ${maxTokenBytes} bytes` : undefined;
}

/** Stage and token of a value `<stage>@<token>`; undefined when there is none that counts. */
export function stageTokenOf(
  value: string | undefined,
): { readonly stage: string; readonly token: string } | undefined {
  const at = value?.indexOf("@") ?? -1;
  const token = tokenOf(value?.slice(at + 1));
  return value === undefined || at <= 0 || token === undefined ? undefined : { stage: value.slice(0, at), token };
}

/** `<stage>@<token>`, split at the first `@`. */
function notOfStage(value: string, stages: ReadonlySet<string>): string | undefined {
  const at = value.indexOf("@");
  if (at <= 0 || at === value.length - 1) return "the value is not <stage>@<token>";
  if (!stages.has(value.slice(0, at))) return "the value names a stage that is not in spec.stages";
  return tooLong(value.slice(at + 1));
}

function noVersion(value: string): string | undefined {
  return parseVersion(value) === undefined ? "the value is not a version" : undefined;
}

function noSwitch(value: string): string | undefined {
  return ["enabled", "disabled"].includes(value.toLowerCase()) ? undefined : "the value is not enabled or disabled";
}
