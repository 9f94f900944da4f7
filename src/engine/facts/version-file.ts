import { readTextFile } from "../../build/text-file.ts";
import { stageFailure } from "../../domain/failure.ts";
import type { Fact, FactKey } from "../../domain/pass/state.ts";
import type { Engine } from "../engine.ts";
import type { Pass } from "../pass.ts";
import { openArtifact } from "./render.ts";

/** A version has at most 256 bytes; the space around it does not count. */
const mostBytes = 4_096;

/** Reads the file of `spec.version.fromArtifact` from the artifact of its stage, as fetched (spec 30 §5.1). */
export async function readVersionFile(
  engine: Engine,
  pass: Pass,
  key: Extract<FactKey, { kind: "versionFile" }>,
  signal: AbortSignal,
): Promise<Fact> {
  const stage = pass.snapshot.spec?.stages.find(({ name }) => name === key.stage);
  if (stage === undefined) throw new RangeError(`no stage "${key.stage}" to read the version of`);
  const { versionFiles } = pass.session;
  const slot = key.identity.digest === undefined ? undefined : `${key.identity.digest} ${key.path}`;
  const known = slot === undefined ? undefined : versionFiles.get(slot);
  if (known !== undefined) return { kind: "versionFile", reading: { kind: "text", text: known } };
  const opened = await openArtifact(engine, pass, { stage, key }, signal);
  if (opened.kind === "unobtainable") return { kind: "versionFile", reading: opened };
  if (opened.kind === "failed") return opened;
  if (opened.kind !== "open") throw new TypeError("an artifact that is opened is not rendered");
  await using artifact = opened.artifact;
  const read = await readTextFile(artifact.root, { path: key.path, mostBytes });
  if (read.kind === "damaged") {
    artifact.discard();
    const cause = "the artifact is damaged on disk; it is fetched anew";
    return { kind: "failed", failure: stageFailure({ name: stage.name, operation: "fetch artifact", cause }) };
  }
  if (read.kind === "unreadable") return { kind: "versionFile", reading: read };
  if (slot !== undefined) {
    // Two are in use at a time at most: of what is pinned, and of what a held stage is at.
    if (versionFiles.size >= 4) versionFiles.clear();
    versionFiles.set(slot, read.text);
  }
  return { kind: "versionFile", reading: read };
}
