import { createHash } from "node:crypto";
import type { Stage, StageSetSpec } from "../../api/stage-set.ts";
import type { Variables } from "../../build/build-stage.ts";
import { stageFailure } from "../../domain/failure.ts";
import { credentialIdentity } from "../../domain/pass/plan.ts";
import type { FactKey, RenderFact } from "../../domain/pass/state.ts";
import type { Span } from "../../lib/telemetry.ts";
import type { Engine } from "../engine.ts";
import type { Pass } from "../pass.ts";
import { inPhase } from "../phase.ts";
import { localAccessOf } from "./connection.ts";
import { readDecryptionKeys, type DecryptionKeys, type ReadKeys } from "./decryption-keys.ts";
import { readVariables } from "./variables.ts";

/** A stage that is to be rendered. */
export interface Rendering {
  readonly spec: StageSetSpec;
  readonly stage: Stage;
  readonly key: Extract<FactKey, { kind: "render" }>;
}

/** What is read for a stage beside its artifact. */
export interface Inputs {
  readonly kind: "inputs";
  readonly variables: Extract<StageVariables, { kind: "variables" }>;
  /** Undefined: nothing is decrypted. */
  readonly keys: DecryptionKeys | undefined;
}

export type StageInputs = Inputs | RenderFact;

/** Reads the keys and the variables of a stage, live, as the StageSet identity. */
export async function stageInputs(
  engine: Engine,
  pass: Pass,
  from: Rendering,
  signal: AbortSignal,
): Promise<StageInputs> {
  const { decryption } = from.spec;
  const keys =
    decryption === undefined
      ? undefined
      : await inPhase(
          engine,
          pass,
          { span: "stage.decrypt", measuredAs: "decrypt", attributes: { stage: from.stage.name } },
          async (span) => failingKeys(span, await stageKeys(engine, pass, { ...from, decryption }, signal)),
        );
  if (keys !== undefined && keys.kind !== "keys") return keys;
  const variables = await stageVariables(engine, pass, from, signal);
  return variables.kind === "variables" ? { kind: "inputs", variables, keys: keys?.keys } : variables;
}

type StageKeys = Extract<ReadKeys, { kind: "keys" }> | RenderFact;

/** The Secret of `spec.decryption`, read live as the StageSet identity. */
async function stageKeys(
  engine: Engine,
  pass: Pass,
  { spec, stage, decryption }: Rendering & { readonly decryption: NonNullable<StageSetSpec["decryption"]> },
  signal: AbortSignal,
): Promise<StageKeys> {
  const as = credentialIdentity(spec, stage, engine.options);
  const read = await readDecryptionKeys(decryption, {
    namespace: pass.key.namespace,
    access: () => localAccessOf(engine, pass.key.namespace, as, signal),
    signal,
  });
  if (read.kind === "keys") return read;
  const operation = read.kind === "unusable" ? "configure decryption" : "decrypt";
  const why = { name: stage.name, operation, cause: read.cause } as const;
  return { kind: "failed", failure: stageFailure(why, read.kind === "denied" ? "authorization" : "ordinary") };
}

function failingKeys(span: Span, outcome: StageKeys): StageKeys {
  if (outcome.kind === "failed") span.fail(outcome.failure.message);
  return outcome;
}

export type StageVariables =
  | {
      readonly kind: "variables";
      readonly variables: Variables | undefined;
      readonly substitutionDigest: string;
      /** Of the values themselves, for the cache key; never leaves this process. */
      readonly digestOfValues: string;
    }
  | RenderFact;

/** Values of `postBuild`, read live as the StageSet identity. */
async function stageVariables(
  engine: Engine,
  pass: Pass,
  { spec, stage, key }: Rendering,
  signal: AbortSignal,
): Promise<StageVariables> {
  const { postBuild } = stage;
  if (postBuild === undefined)
    return { kind: "variables", variables: undefined, substitutionDigest: "", digestOfValues: "" };
  const as = credentialIdentity(spec, stage, engine.options);
  const read = await readVariables(postBuild, {
    namespace: pass.key.namespace,
    salt: `${pass.snapshot.uid}${stage.name}`,
    access: () => localAccessOf(engine, pass.key.namespace, as, signal),
    signal,
  });
  if (read.kind === "read") {
    const digestOfValues = hashOf([...(read.variables?.values ?? [])]);
    return {
      kind: "variables",
      variables: read.variables,
      substitutionDigest: read.substitutionDigest,
      digestOfValues,
    };
  }
  const authorization = read.kind === "denied" ? "authorization" : "ordinary";
  const why = stageFailure(
    { name: stage.name, operation: "resolve postBuild variables", cause: read.cause },
    authorization,
  );
  // An earlier stage or a pre action may still create what is missing; without them the preflight has the last word.
  const earlier = spec.stages[0]?.name !== stage.name || (stage.actions?.pre ?? []).length > 0;
  return read.kind === "missing" && earlier && key.at === "preflight"
    ? { kind: "postponed", failure: why }
    : { kind: "failed", failure: why };
}

function hashOf(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}
