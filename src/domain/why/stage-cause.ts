import type { StageOperation } from "../failure.ts";
import { asArray, asNumber, asObject, asText, at } from "../../lib/json.ts";
import { durationMs, formatDuration } from "../../lib/duration.ts";
import { timestamp } from "../status.ts";
import { defaultVerifyTimeoutMs } from "../timing.ts";
import { causeOf, type AwaitedObject, type Cause, type CauseKind, type JudgedCause } from "./cause.ts";
import { describeCommand, getCommand, promoteCommand, reconcileCommand, type StageSetName } from "./commands.ts";
import { whoClears } from "./ready-cause.ts";

/** A stage as spec and status have it. */
export interface StageView {
  readonly name: string;
  readonly spec: unknown;
  /** Undefined before the controller has seen the stage. */
  readonly entry: unknown;
  readonly phase: string;
}

/** The stages of the spec, in its order; rows of removed stages are no stages any more. */
export function stagesOf(stageSet: unknown): readonly StageView[] {
  const entries = new Map(asArray(at(stageSet, "status", "stages")).map((entry) => [at(entry, "name"), entry]));
  return asArray(at(stageSet, "spec", "stages")).flatMap((spec) => {
    const name = asText(at(spec, "name"));
    if (name === undefined) return [];
    const entry = entries.get(name);
    return [{ name, spec, entry, phase: asText(at(entry, "phase")) ?? "Pending" }];
  });
}

/** Which part of a stage an operation belongs to. */
const operationKinds: Readonly<Record<StageOperation, CauseKind>> = {
  "connect to target cluster": "connection",
  "configure decryption": "preflight",
  "fetch artifact": "preflight",
  decrypt: "preflight",
  "resolve postBuild variables": "preflight",
  build: "preflight",
  "image verification": "image",
  "record inventory": "apply",
  "conflict policy": "apply",
  apply: "apply",
  verify: "verify",
  "pre-action": "preAction",
  "post-action": "postAction",
  migration: "migration",
  "migration halted (dirty)": "migration",
  "action halted (dirty)": "preAction",
  prune: "prune",
};

/** A stage's message begins with the operation it failed in. */
function failedKind(message: string): CauseKind {
  const [operation = ""] = message.split(": ", 1);
  return Object.hasOwn(operationKinds, operation) ? operationKinds[operation as StageOperation] : "apply"; // A key of it.
}

/** What the status of a stage that failed says; `reason` is Ready's. */
export function failedStageCause(of: StageSetName, stage: StageView, reason: string): JudgedCause {
  const message = asText(at(stage.entry, "message")) ?? "the stage failed";
  const kind = failedKind(message);
  const cause = causeOf({
    kind,
    stage: stage.name,
    reason,
    message,
    clearedBy: whoClears(kind),
    command: reconcileCommand(of),
  });
  return { state: "failing", cause };
}

/** What a stage at work is doing, or waits for. */
export function workingStageCause(of: StageSetName, stage: StageView, at_: WorkContext): Cause {
  const waiting = awaitedObjects(stage);
  const said = asText(at(stage.entry, "message"));
  if (stage.phase === "Verifying") {
    const [first] = waiting;
    const since = waitingSince(stage.entry);
    return causeOf({
      kind: "verify",
      stage: stage.name,
      object: first === undefined ? undefined : objectName(first, of.namespace),
      reason: at_.reason,
      message: waiting.length === 0 ? (said ?? "waits for its objects to become ready") : describeObjects(waiting),
      since: since ?? at_.reasonSince,
      until: verifyUntil(stage, at_),
      clearedBy: whoClears("verify"),
      command: first === undefined ? describeCommand(of) : getCommand(first.kind, first),
    });
  }
  const kind = stage.phase === "Pruning" ? "prune" : stage.phase === "Applying" ? "apply" : "preflight";
  const doing =
    kind === "prune" ? "objects are being deleted" : kind === "apply" ? "is being applied" : "waits for its turn";
  return causeOf({
    kind,
    stage: stage.name,
    reason: at_.reason,
    message: said ?? (at_.message === "" ? doing : at_.message),
    since: at_.reasonSince,
    command: describeCommand(of),
  });
}

export interface WorkContext {
  readonly reason: string;
  readonly message: string;
  readonly reasonSince: string | undefined;
  readonly spec: unknown;
  /** Epoch ms. */
  readonly now: number;
}

/** What a stage's promotion gate waits for; undefined when it lets pass, or the stage has not reached it. */
export function promotionCause(of: StageSetName, stage: StageView): JudgedCause | undefined {
  const gate = asObject(at(stage.entry, "promotionState"));
  const phase = asText(gate?.["phase"]);
  if (gate === undefined || phase === undefined || phase === "Promoted") return undefined;
  if (at(stage.spec, "promotion") === undefined) return undefined;
  const until = phase === "Soaking" ? asText(gate["soakUntil"]) : undefined;
  const cause = causeOf({
    kind: "promotion",
    stage: stage.name,
    reason: phase,
    message: gateMessage(stage, gate, phase),
    since: asText(gate["since"]),
    until,
    clearedBy: gateClearedBy(phase),
    command: promoteCommand(of, stage.name),
  });
  return { state: phase === "Blocked" ? "failing" : "waiting", cause };
}

function gateClearedBy(phase: string): string {
  switch (phase) {
    case "Soaking":
      return "time, or whoever promotes the stage";
    case "AwaitingManual":
      return "whoever promotes the stage";
    case "Analyzing":
      return "an evaluation that passes, or whoever promotes the stage";
    default:
      return "checks that pass again, a new revision, or whoever promotes the stage";
  }
}

function gateMessage(stage: StageView, gate: Readonly<Record<string, unknown>>, phase: string): string {
  const analysis = analysisText(stage, gate);
  switch (phase) {
    case "Soaking":
      return `soaks${asText(gate["soakUntil"]) === undefined ? "" : ` until ${asText(gate["soakUntil"]) ?? ""}`}`;
    case "AwaitingManual":
      return "awaits its promotion";
    case "Analyzing":
      return `is analyzed: ${analysis}`;
    case "Blocked":
      return `is blocked: ${podBreach(gate) ?? analysis}`;
    default:
      return `is at its gate: ${phase}`;
  }
}

function podBreach(gate: Readonly<Record<string, unknown>>): string | undefined {
  const restarts = asText(gate["restartCheck"]);
  if (restarts !== undefined)
    return `restart check "${restarts}" counts ${asNumber(gate["observedRestarts"]) ?? 0} restart(s)`;
  const events = asText(gate["eventCheck"]);
  return events === undefined
    ? undefined
    : `event check "${events}" counts ${asNumber(gate["observedEvents"]) ?? 0} event(s)`;
}

/** Each check's value and its bounds. */
function analysisText(stage: StageView, gate: Readonly<Record<string, unknown>>): string {
  const checks = asArray(at(gate, "lastAnalysis", "checks"));
  if (checks.length === 0) return "no evaluation yet";
  const bounds = new Map(
    asArray(at(stage.spec, "promotion", "analysis", "checks")).map((check) => [at(check, "name"), check]),
  );
  return checks
    .slice(0, 10)
    .map((check) => {
      const name = asText(at(check, "name")) ?? "";
      const threshold = at(bounds.get(name), "threshold");
      const [min, max] = [asText(at(threshold, "min")), asText(at(threshold, "max"))];
      const wanted = [...(min === undefined ? [] : [`min ${min}`]), ...(max === undefined ? [] : [`max ${max}`])];
      const value = asText(at(check, "value")) ?? asText(at(check, "error")) ?? "no value";
      const verdict = at(check, "ok") === true ? "passes" : "fails";
      return `"${name}" ${verdict} at ${value}${wanted.length === 0 ? "" : ` (${wanted.join(", ")})`}`;
    })
    .join("; ");
}

/** What a stage waits for now, as status lists it. */
export function awaitedObjects(stage: StageView): readonly AwaitedObject[] {
  return asArray(at(stage.entry, "waitingFor")).map((each) => ({
    stage: stage.name,
    kind: asText(at(each, "kind")) ?? "",
    namespace: asText(at(each, "namespace")) ?? "",
    name: asText(at(each, "name")) ?? "",
    status: asText(at(each, "status")) ?? "",
    message: asText(at(each, "message")) ?? "",
  }));
}

/** At most five objects with what each lacks (spec 70 §9.2). */
function describeObjects(waiting: readonly AwaitedObject[]): string {
  const named = waiting
    .slice(0, 5)
    .map(({ kind, name, status, message }) => `${kind}/${name} ${status}${message === "" ? "" : `: ${message}`}`);
  const rest = waiting.length - named.length;
  return `${named.join("; ")}${rest > 0 ? `; and ${rest} more` : ""}`;
}

function objectName({ kind, namespace, name }: AwaitedObject, own: string): string {
  return namespace === "" || namespace === own ? `${kind}/${name}` : `${kind}/${namespace}/${name}`;
}

/** Since when the stage waits: for the object it waits for longest. */
export function waitingSince(entry: unknown): string | undefined {
  return asArray(at(entry, "waitingFor"))
    .flatMap((each) => asText(at(each, "since")) ?? [])
    .toSorted()[0];
}

/**
 * When verifying runs out of time; undefined once it has, and where it cannot be known. The start of the clock is not on
 * record: it is when the first objects were listed, which shows only while every object of the stage is listed. A
 * controller that starts anew gives the stage its whole time again.
 */
function verifyUntil({ spec: stage, entry }: StageView, { reason, spec, now }: WorkContext): string | undefined {
  const listed = asArray(at(entry, "waitingFor"));
  const since = waitingSince(entry);
  const isWhole = listed.length > 0 && listed.length === asNumber(at(entry, "entriesCount"));
  // A stage that stops being ready has its clock begun before anything is listed; Ready is StageProgressing then.
  if (reason !== "Progressing" || since === undefined || !isWhole) return undefined;
  const given = [at(stage, "readyChecks", "timeout"), at(stage, "timeout"), at(spec, "timeout")]
    .map((text) => durationMs(asText(text) ?? "") ?? 0)
    .find((ms) => ms > 0);
  const until = Date.parse(since) + (given ?? defaultVerifyTimeoutMs);
  return Number.isFinite(until) && until > now ? timestamp(until) : undefined;
}

/** A time ago in words that a person reads at a glance: whole seconds. */
export function ago(since: string | undefined, now: number): string {
  const ms = since === undefined ? NaN : now - Date.parse(since);
  return Number.isFinite(ms) ? formatDuration(Math.max(0, Math.floor(ms / 1_000) * 1_000)) : "";
}
