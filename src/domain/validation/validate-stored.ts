import { parseStageSet } from "../../api/stage-set.ts";
import type { KubeObject } from "../../lib/kube-object.ts";

/** Violations named in one text; the rest are counted. */
const mostNamed = 20;

/** Why a stored StageSet cannot be run, in one stable text; undefined when it can (spec 10 §12). */
export function validateStored(
  object: KubeObject,
  _options: { readonly crossNamespace: "allowed" | "refused"; readonly allowLoopback: boolean },
): string | undefined {
  const parsed = parseStageSet(object);
  if (parsed.kind === "valid") return undefined;
  const named = parsed.violations.slice(0, mostNamed).map(({ path, message }) => `${path} ${message}`);
  const more = parsed.violations.length - named.length;
  return more > 0 ? `${named.join("; ")}; and ${more} more` : named.join("; ");
}
