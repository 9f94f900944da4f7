import type { VersionSpec } from "../../api/stage-set.ts";
import { sameVersion } from "../formats/version.ts";
import { identityOf, type ArtifactIdentity, type Pin } from "../pins.ts";
import { stageEntry } from "../status.ts";
import { quote } from "../validation/finding.ts";
import { versionOfObjects, type VersionReading } from "../versions/version-of-objects.ts";
import { endFailed } from "./finish.ts";
import type { Goals } from "./goals.ts";
import { factOf } from "./plan.ts";
import type { Fact, FactKey, PassState } from "./state.ts";
import type { Step } from "./step.ts";

/**
 * What the source of the version says (spec 30 §5.1). `unknown`: the stage it comes from is held, and what it is held at
 * cannot be had, or other stages have begun a version that neither it nor its pin has; that is no transition.
 */
export type WantedVersion =
  | { readonly kind: "text"; readonly text: string; readonly origin: string }
  | { readonly kind: "refused"; readonly message: string }
  | { readonly kind: "unknown" }
  | { readonly kind: "step"; readonly step: Step };

/** T of spec 30, from the artifacts that the goals put in effect. */
export function wantedVersion(state: PassState, spec: VersionSpec, goals: Goals): WantedVersion {
  if (spec.value !== undefined) return { kind: "text", text: spec.value.trim(), origin: "spec.version.value" };
  const stage = (spec.fromArtifact ?? spec.fromObject)?.stage;
  const goal =
    stage === undefined || stage === "" ? goals.stages[0] : goals.stages.find((each) => each.stage === stage);
  if (goal === undefined) return { kind: "unknown" };
  const pinned = { stage: goal.stage, identity: identityOf(goal.pin), pin: goal.pin };
  if (goal.content === "pin") return versionAt(state, spec, pinned);
  return (
    begunVersion(state, goals, () => versionAt(state, spec, pinned)) ??
    (goal.identity === undefined
      ? { kind: "unknown" }
      : versionAt(state, spec, { stage: goal.stage, identity: goal.identity, pin: undefined }))
  );
}

/**
 * What the stage of the version is pinned to, although it is held, if others have begun their pins for that very version:
 * that it came to be held turns nothing of theirs around. For any other version nothing was let in: they stay on their way
 * until it is.
 */
function begunVersion(
  { stored: { status } }: PassState,
  { stages }: Goals,
  read: () => WantedVersion,
): WantedVersion | undefined {
  const begun = stages.flatMap(({ stage, content }) => {
    const { ledgerVersion = "" } = stageEntry(status, stage) ?? {};
    const other = ledgerVersion !== "" && !sameVersion(ledgerVersion, status.version ?? "");
    return other ? [{ version: ledgerVersion, atPin: content === "pin" }] : [];
  });
  if (begun.length === 0) return undefined;
  const pinned = read();
  if (pinned.kind === "step" && pinned.step.kind === "need") return pinned;
  const isGoneTo =
    pinned.kind === "text" && begun.some(({ version, atPin }) => atPin && sameVersion(version, pinned.text));
  return isGoneTo ? pinned : { kind: "unknown" };
}

interface Content {
  readonly stage: string;
  readonly identity: ArtifactIdentity;
  /** Undefined: what is kept of an identity that is not pinned. */
  readonly pin: Pin | undefined;
}

function versionAt(state: PassState, { fromObject, fromArtifact }: VersionSpec, content: Content): WantedVersion {
  if (fromArtifact !== undefined) {
    const key = { kind: "versionFile", ...content, path: fromArtifact.path } as const;
    const what = `spec.version.fromArtifact, file ${quote(fromArtifact.path)} of stage ${quote(content.stage)},`;
    return readingOf(state, { key, what }, (fact) =>
      fact.kind === "versionFile" ? fact.reading : { kind: "unreadable", problem: "was not read" },
    );
  }
  if (fromObject === undefined) return { kind: "unknown" };
  const key = { kind: "render", ...content, at: "preflight" } as const;
  return readingOf(state, { key, what: "spec.version.fromObject" }, (fact) => {
    if (fact.kind !== "render") return { kind: "unreadable", problem: "was not read" };
    const { render } = fact;
    if (render.kind === "rendered") return versionOfObjects(render.objects, fromObject);
    return render.kind === "unobtainable" ? render : { kind: "failed", failure: render.failure };
  });
}

type Read =
  VersionReading | { readonly kind: "unobtainable" } | Pick<Extract<Fact, { kind: "failed" }>, "kind" | "failure">;

function readingOf(
  state: PassState,
  of: {
    readonly key: Extract<FactKey, { readonly kind: "render" | "versionFile" }>;
    readonly what: string;
  },
  read: (fact: Fact) => Read,
): WantedVersion {
  const { key, what } = of;
  const fact = factOf(state, key);
  if (fact === undefined) return { kind: "step", step: { kind: "need", facts: [key] } };
  const reading = fact.kind === "failed" ? fact : read(fact);
  switch (reading.kind) {
    case "text":
      return { kind: "text", text: reading.text.trim(), origin: what };
    case "unreadable":
      return { kind: "refused", message: `${what} ${reading.problem}` };
    case "unobtainable":
      return { kind: "unknown" };
    case "failed":
      return key.pin !== undefined ? { kind: "step", step: endFailed(state, reading.failure) } : { kind: "unknown" };
  }
}
