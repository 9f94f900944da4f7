/**
 * Why a stage cannot be built. `NotFound`: its path; `Empty`: no manifests there; `NotAManifest`: a file that is
 * something else; `Invalid`: a manifest that cannot be applied, or a tree that must not be read; `Limit`: a cap of
 * spec 50 §6; `Damaged`: what is kept of the artifact, which another download mends.
 */
export type BuildReason =
  | "NotFound"
  | "Empty"
  | "NotAManifest"
  | "Yaml"
  | "Kustomize"
  | "Substitution"
  | "Patch"
  | "Duplicate"
  | "Invalid"
  | "Limit"
  | "Damaged";

/** The same artifact and spec give the same failure, but for `Damaged`. Names files and objects, never a value. */
export class BuildError extends Error {
  override name = "BuildError";
  readonly retry: "backoff" | "never";
  readonly reason: BuildReason;
  constructor(reason: BuildReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
    this.retry = reason === "Damaged" ? "backoff" : "never";
  }
}
