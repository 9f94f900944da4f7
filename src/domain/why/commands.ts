import {
  approvedVersionAnnotation,
  budgetOverrideAnnotation,
  promoteAnnotation,
  requestedAtAnnotation,
  updateNowAnnotation,
} from "../../api/keys.ts";

/** A StageSet by name. */
export interface StageSetName {
  readonly namespace: string;
  readonly name: string;
}

/** What a shell substitutes for a token that was not used before. */
const freshToken = "$(date +%s)";

export function resumeCommand({ namespace, name }: StageSetName): string {
  return `kubectl patch stageset ${quoted(name)} -n ${quoted(namespace)} --type merge -p '{"spec":{"suspend":false}}'`;
}

export function describeCommand({ namespace, name }: StageSetName): string {
  return `kubectl describe stageset ${quoted(name)} -n ${quoted(namespace)}`;
}

/** Has the controller try again at once. */
export function reconcileCommand(of: StageSetName): string {
  return annotate(of, `${requestedAtAnnotation}="${freshToken}"`);
}

export function updateNowCommand(of: StageSetName): string {
  return annotate(of, `${updateNowAnnotation}="${freshToken}"`);
}

export function overrideBudgetCommand(of: StageSetName): string {
  return annotate(of, `${budgetOverrideAnnotation}="${freshToken}"`);
}

export function promoteCommand(of: StageSetName, stage: string): string {
  return annotate(of, `${promoteAnnotation}="${quotedInside(stage)}@${freshToken}"`);
}

export function approveCommand(of: StageSetName, version: string): string {
  return annotate(of, `${approvedVersionAnnotation}=${quoted(version)}`);
}

export function getCommand(kind: string, { namespace, name }: StageSetName): string {
  return `kubectl describe ${quoted(kind.toLowerCase())} ${quoted(name)} -n ${quoted(namespace)}`;
}

function annotate({ namespace, name }: StageSetName, assignment: string): string {
  return `kubectl annotate stageset ${quoted(name)} -n ${quoted(namespace)} --overwrite ${assignment}`;
}

/** One word of a shell, whatever is in it: what comes from a status may be anything, and people paste commands. */
function quoted(word: string): string {
  return /^[\w.+:@%/-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** The same between double quotes. */
function quotedInside(word: string): string {
  return word.replace(/[\\"$`!]/g, (char) => `\\${char}`);
}
