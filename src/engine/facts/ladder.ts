import { ladderJobName, type LadderInput, type LadderOutput } from "../../build/ladder-job.ts";
import { ComputeError } from "../../compute/compute-error.ts";
import { failure, type Failure } from "../../domain/failure.ts";
import type { Fact } from "../../domain/pass/state.ts";
import { pinOf, sourceTarget, type Pin, type SourceTarget } from "../../domain/pins.ts";
import { expressionsOfActions } from "../../domain/validation/expressions.ts";
import { quote, renderFinding } from "../../domain/validation/finding.ts";
import { actionsOfGroups, migrationGroups, type PlacedMigration } from "../../domain/validation/places.ts";
import { ladderProblems, sendsRequests } from "../../domain/versions/ladder-problems.ts";
import { rungsOf } from "../../domain/versions/migration-ledger.ts";
import { asArray, asText, at } from "../../lib/json.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import { SourceError } from "../../source/source-error.ts";
import type { Engine } from "../engine.ts";
import type { Pass } from "../pass.ts";
import { compileAll } from "./cel.ts";
import { ladderSlot, type LadderFact } from "./ladder-cache.ts";
import { readSource } from "./pins.ts";

/** A ladder is small; one that takes longer to parse is an attack. */
const parseTimeoutMs = 30_000;
/** Problems in one message. */
const mostShown = 10;

const refused = (why: Failure): Fact => ({ kind: "ladder", refused: why });

/** Reads the ladder of `spec.migrationsSourceRef` (spec 30 §7), as the controller, from the StageSet's own namespace. */
export async function readLadder(engine: Engine, pass: Pass, signal: AbortSignal): Promise<Fact> {
  const ref = pass.snapshot.spec?.migrationsSourceRef;
  if (ref === undefined) return { kind: "ladder", ladder: { rungs: [], origin: "" } };
  const { namespace } = pass.key;
  const target = sourceTarget({ ...ref.sourceRef, namespace }, namespace);
  if ("reason" in target) return refused(target);
  const described = `migrations source ${target.kind} ${quote(target.name)}`;
  const source = await readSource(engine, target, signal);
  if (source.kind === "failure") return refused(ofSource(described, source.failure));
  const untrusted = whyUntrusted(engine, target, source.object);
  const pin = pinOf(source.object, { ownNamespace: namespace, target, lastApplied: undefined });
  if ("reason" in pin) return refused(ofSource(described, pin));
  if (untrusted !== undefined) return refused(failure(untrusted.reason, `${described} ${untrusted.message}`));
  sayMutable(pass, { target, object: source.object, pin, described });
  const path = ref.path ?? "";
  const { cache } = engine.ladders;
  const slot = ladderSlot([namespace, described, pin.revision, pin.digest, path]);
  const known = cache.get(slot);
  if (known !== undefined) return known;
  const { fact, lasts, bytes } = await parse(engine, pass, { pin, path, described }, signal);
  if (lasts === "settled") cache.keep(slot, fact, bytes);
  else if (lasts === "costly") cache.putOff(slot, fact);
  return fact;
}

/** Whatever fails about it is told with what it is the source of; what may pass is tried again at the retry interval. */
function ofSource(described: string, { reason, message }: Failure): Failure {
  const next = reason === "RBACDenied" ? "minute" : "retry";
  return failure(reason, `${described}: ${message}`, next);
}

/** Signature and pinning, as far as flags ask for them; a signature that failed is refused whatever they say. */
function whyUntrusted({ ladders }: Engine, target: SourceTarget, source: KubeObject) {
  const verified = asArray(at(source, "status", "conditions")).find((each) => at(each, "type") === "SourceVerified");
  const status = asText(at(verified, "status"));
  if (status !== "True" && (verified !== undefined || ladders.requireVerified)) {
    const message =
      verified === undefined
        ? "has no verified signature, which --require-verified-migration-sources asks for"
        : `is not verified: ${asText(at(verified, "message")) ?? "it does not say why"}`;
    return { reason: "MigrationSourceNotVerified", message } as const;
  }
  if (!ladders.requirePinned || isPinned(target, source)) return undefined;
  return {
    reason: "MigrationSourceNotPinned",
    message: `is not pinned by ${pinnedBy(target)}, which --require-pinned-migration-sources asks for`,
  } as const;
}

function isPinned(target: SourceTarget, source: KubeObject): boolean {
  if (target.mode === "producer" || target.kind === "ExternalArtifact") return true;
  if (target.kind === "OCIRepository") return (asText(at(source, "spec", "ref", "digest")) ?? "") !== "";
  if (target.kind === "GitRepository") return (asText(at(source, "spec", "ref", "commit")) ?? "") !== "";
  return false;
}

function pinnedBy({ kind }: SourceTarget): string {
  return kind === "OCIRepository" ? "spec.ref.digest" : kind === "GitRepository" ? "spec.ref.commit" : "anything";
}

function sayMutable(
  pass: Pass,
  of: {
    readonly target: SourceTarget;
    readonly object: KubeObject;
    readonly pin: Pin;
    readonly described: string;
  },
): void {
  const { target, object, pin, described } = of;
  if (isPinned(target, object)) return;
  pass.report.event({
    type: "Warning",
    reason: "MigrationSourceMutable",
    note: `${described} is not pinned by ${pinnedBy(target)}: what it offers may change (now revision ${quote(pin.revision)})`,
    once: `mutable ${pin.revision} ${pin.digest}`,
  });
}

interface Ladder {
  readonly pin: Pin;
  readonly path: string;
  readonly described: string;
}

/** `settled`: the same artifact gives the same again. `costly`: it likely does, at the same cost. */
interface Parsed {
  readonly fact: LadderFact;
  readonly lasts: "settled" | "costly" | "not";
  /** Of the files. */
  readonly bytes: number;
}

async function parse(engine: Engine, pass: Pass, ladder: Ladder, signal: AbortSignal): Promise<Parsed> {
  const { pin, path, described } = ladder;
  const refusedFor = (why: Failure, lasts: Parsed["lasts"]): Parsed => ({
    ...{ fact: { kind: "ladder", refused: why }, lasts, bytes: why.message.length },
  });
  const invalid = (problem: string, lasts: Parsed["lasts"] = "settled"): Parsed =>
    refusedFor(
      failure("MigrationArtifactInvalid", `${described} at revision ${quote(pin.revision)}: ${problem}`),
      lasts,
    );
  const unread = (cause: string): Parsed =>
    refusedFor(failure("ResolveFailed", `${described}: ${cause}`, "retry"), "not");
  try {
    await using artifact = await engine.artifacts.open(
      { url: pin.url, digest: pin.digest },
      { signal, tenant: pass.key.namespace },
    );
    const input: LadderInput = { root: artifact.root, path };
    const job = { signal, timeoutMs: parseTimeoutMs, queue: pass.key.namespace, exclusive: true };
    // What `ladderJob` put in its output.
    const output = (await engine.compute.run(ladderJobName, input, job)) as LadderOutput;
    if (output.kind === "damaged") {
      artifact.discard();
      return unread("its artifact is damaged on disk; it is fetched anew");
    }
    const { migrations } = output;
    const found = output.problems.map(({ path: where, message }) => (where === "" ? message : `${where}: ${message}`));
    // Rules are for what could be read.
    const problems = found.length > 0 ? found : await problemsOf(engine, pass, migrations, signal);
    if (problems.length > 0) {
      const more = problems.length > mostShown ? `; and ${problems.length - mostShown} more` : "";
      return invalid(`${problems.slice(0, mostShown).join("; ")}${more}`);
    }
    const sending = engine.ladders.isAllowedHost === undefined ? sendsRequests(migrations) : undefined;
    if (sending !== undefined) {
      const message = `${described}: ${sending.place.path} (${sending.place.subject}) has an http step, which takes --allowed-action-hosts`;
      return refusedFor({ ...failure("InvalidSpec", message), terminal: true }, "settled");
    }
    const origin = `, of ${described} at revision ${quote(pin.revision)}, ${pin.digest},`;
    const rungs = rungsOf(migrations.map(({ migration }) => migration));
    return { fact: { kind: "ladder", ladder: { rungs, origin } }, lasts: "settled", bytes: output.bytes };
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof SourceError)
      return error.retry === "never" ? invalid(error.message, "not") : unread(error.message);
    if (!(error instanceof ComputeError)) throw error;
    const costly = error.reason === "TimedOut" || error.reason === "OutOfMemory";
    return costly ? invalid(error.message, "costly") : unread(error.message);
  }
}

async function problemsOf(
  engine: Engine,
  pass: Pass,
  migrations: readonly PlacedMigration[],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const texts = [...expressionsOfActions(actionsOfGroups(migrationGroups(migrations)))].map(({ text }) => text);
  const { problems, unknown } = await compileAll(engine.cel, texts, signal);
  if (unknown !== undefined) throw new ComputeError("Failed", `Cannot check expressions: ${unknown}`);
  const { crossNamespace, allowLoopback, isAllowedHost } = engine.ladders;
  const findings = ladderProblems(migrations, {
    ...{ namespace: pass.key.namespace, crossNamespace, allowLoopback, stages: undefined },
    ...(isAllowedHost === undefined ? {} : { isAllowedHost }),
    expressionProblem: (expression) => problems.get(expression),
  });
  return [...findings].filter(({ severity }) => severity === "deny").map(renderFinding);
}
