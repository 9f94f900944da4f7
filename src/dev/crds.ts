import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { asArray, asText, at } from "../lib/json.ts";
import { sleep, systemClock } from "../lib/clock.ts";
import { type ApiTarget, callApi } from "./api-call.ts";
import { moduleFolder, type ToolName, type ToolOptions } from "./tools.ts";

const establishedWithinMs = 30_000;

/** Sources of CustomResourceDefinitions other than our own. */
const foreign: Readonly<Record<"flux" | "flagger" | "rollouts", readonly [ToolName, string, string]>> = {
  /** Flux's sources, ExternalArtifact among them. */
  flux: ["source-controller", "github.com/fluxcd/source-controller", "config/crd/bases"],
  flagger: ["flagger", "github.com/fluxcd/flagger", "artifacts/flagger"],
  rollouts: ["rollouts-controller", "github.com/argoproj/argo-rollouts", "manifests/crds"],
};
export type CrdSet = "stageset" | "flux" | "flagger" | "rollouts";

/** The definitions of a set; ours come from `config/crd`, others from the pinned Go modules of their controllers. */
export async function readCrds(set: CrdSet, options: ToolOptions = {}): Promise<readonly unknown[]> {
  const folder =
    set === "stageset"
      ? fileURLToPath(new URL("../../config/crd/", import.meta.url))
      : await moduleFolder(...foreign[set], options);
  const definitions: unknown[] = [];
  for (const file of (await readdir(folder)).filter((name) => name.endsWith(".yaml")).sort()) {
    for (const document of parseAllDocuments(await readFile(join(folder, file), "utf8"))) {
      const definition: unknown = document.toJS();
      if (at(definition, "kind") === "CustomResourceDefinition") definitions.push(definition);
    }
  }
  return definitions;
}

/**
 * Applies the definitions and waits until the API server serves them.
 *
 * @throws an Error that names the definition, when it is refused or not served within 30 s
 * @throws the signal's reason, when aborted
 */
export async function installCrds(
  api: ApiTarget,
  sets: readonly CrdSet[],
  options: ToolOptions = {},
): Promise<readonly string[]> {
  const definitions = (await Promise.all(sets.map((set) => readCrds(set, options)))).flat();
  return Promise.all(definitions.map((definition) => installCrd(api, definition, options.signal)));
}

/** Applies one definition and waits until it is served; returns its name. */
export async function installCrd(api: ApiTarget, definition: unknown, signal?: AbortSignal): Promise<string> {
  const name = asText(at(definition, "metadata", "name")) ?? "";
  const path = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${name}`;
  const { status, body } = await callApi(api, "PATCH", `${path}?fieldManager=stageset-dev&force=true`, {
    body: definition,
    contentType: "application/apply-patch+yaml",
  });
  if (status >= 300) throw new Error(`Cannot install "${name}": ${asText(at(body, "message")) ?? String(status)}`);
  const giveUpAt = systemClock.monotonic() + establishedWithinMs;
  for (;;) {
    const now = await callApi(api, "GET", path);
    if (isTrue(now.body, "Established") && (await isServed(api, definition))) return name;
    if (systemClock.monotonic() > giveUpAt) throw new Error(`Cannot install "${name}": it is not served after 30 s`);
    await sleep(systemClock, 50, signal);
  }
}

function isTrue(definition: unknown, condition: string): boolean {
  return asArray(at(definition, "status", "conditions")).some(
    (one) => at(one, "type") === condition && at(one, "status") === "True",
  );
}

// Established is set a moment before the first request succeeds.
async function isServed(api: ApiTarget, definition: unknown): Promise<boolean> {
  const group = asText(at(definition, "spec", "group")) ?? "";
  const plural = asText(at(definition, "spec", "names", "plural")) ?? "";
  const versions = asArray(at(definition, "spec", "versions")).filter((one) => at(one, "served") === true);
  for (const version of versions) {
    const path = `/apis/${group}/${asText(at(version, "name")) ?? ""}/${plural}?limit=1`;
    if ((await callApi(api, "GET", path)).status !== 200) return false;
  }
  return true;
}
