import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { ComputePool } from "../compute/pool.ts";
import type { StageSetController } from "../controller/stage-set-controller.ts";
import { planImages } from "../domain/images/plan-images.ts";
import type { JudgingPolicy } from "../domain/images/governing.ts";
import { readyCondition } from "../domain/status.ts";
import { statusOf } from "../engine/journal.ts";
import type { ImageGate, PolicyView } from "../engine/image-gate.ts";
import { createImageVerifier } from "../images/image-verifier.ts";
import { credentialFor } from "../images/pull-credentials.ts";
import { fetchedTrustedRoot, trustedRootFile } from "../images/trusted-root.ts";
import { isAuthorizationRefusal } from "../kube/refusal.ts";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { GuardedFetch } from "../outbound/guard.ts";
import type { Config } from "./config.ts";
import type { OwnCaches } from "./own-caches.ts";

/** What images are judged with, as flags and caches have it. */
export function buildImageGate(parts: {
  readonly config: Config;
  readonly caches: Pick<OwnCaches, "policies">;
  readonly clock: Clock;
  readonly compute: ComputePool;
  readonly fetch: GuardedFetch;
  readonly logger: Logger;
}): ImageGate {
  const { config, caches, clock, compute, fetch } = parts;
  const { requireMatch, trustedRoot, insecureRegistries, breakGlass } = config.imageVerification;
  const insecure = new Set(insecureRegistries);
  const logger = parts.logger.with({ logger: "imageverify" });
  let saidAbsent = false;
  return {
    clock,
    policies: () => {
      const view = viewOf(caches.policies);
      if (view === "absent" && !saidAbsent) {
        saidAbsent = true;
        logger.warn("the kind ImageVerificationPolicy is not installed: no image is verified");
      }
      return view === "absent" ? { kind: "known", policies: [] } : view;
    },
    verifier: createImageVerifier({
      clock,
      compute,
      fetch,
      isInsecure: (host) => insecure.has(host),
      trustedRoot: trustedRoot === undefined ? fetchedTrustedRoot({ clock }) : trustedRootFile(trustedRoot),
    }),
    unmatched: requireMatch ? "refused" : "allowed",
    breakGlass:
      breakGlass === "off"
        ? "off"
        : breakGlass === "authorized" && config.webhook === undefined
          ? "unchecked"
          : "counts",
    ownCredential: (image) => ownCredential(config.env["DOCKER_CONFIG"], image),
  };
}

/** A list that is not whole, or not of now, could lack the policy that holds an image. */
function viewOf({
  synced,
  problem,
  health,
  list,
}: Pick<OwnCaches["policies"], "synced" | "problem" | "health" | "list">): PolicyView | "absent" {
  const failed = problem();
  if (failed !== undefined) {
    // A proxy, or a kind that is being established again, answers 404 as well: what was listed does not count for nothing then.
    const isNotFound = failed.reason === "NotFound" || failed.reason === "NotServed";
    if (isNotFound && list().length === 0) return "absent";
    const why = `ImageVerificationPolicies cannot be listed: ${failed.message}`;
    if (isAuthorizationRefusal(failed)) return { kind: "denied", why };
    if (isNotFound || !synced || health() === "stale") return { kind: "unknown", why: `cannot verify images: ${why}` };
  }
  if (!synced) return { kind: "unknown", why: "cannot verify images: ImageVerificationPolicies are not listed yet" };
  return { kind: "known", policies: list() };
}

/** Only of registries that it lists; its helpers are not run (spec 50 §4.5). */
async function ownCredential(
  dir: string | undefined,
  image: { readonly registry: string; readonly repository: string },
): Promise<ReturnType<typeof credentialFor>> {
  if (dir === undefined || dir === "") return undefined;
  try {
    return credentialFor(await readFile(join(dir, "config.json"), "utf8"), image);
  } catch {
    return undefined;
  }
}

/** A policy that changed is news for StageSets that are held by policies, and for those with images it is about. */
export function watchPolicies({
  caches,
  controller,
}: {
  readonly caches: Pick<OwnCaches, "policies" | "stageSets">;
  readonly controller: Pick<StageSetController, "wake" | "session">;
}): Disposable {
  return caches.policies.subscribe((change) => {
    const about: JudgingPolicy[] = change.type === "deleted" ? [change.object] : [change.object];
    if (change.type !== "deleted" && change.previous !== undefined) about.push(change.previous);
    for (const stageSet of caches.stageSets.list()) {
      const { namespace = "", name, uid = "" } = stageSet.metadata;
      const status = statusOf(stageSet);
      const held = readyCondition(status)?.reason === "ImageUnverified";
      const key = { namespace, name };
      if (held || isAbout(about, [...controller.session(key, uid).images.values()].flat()))
        controller.wake(key, "policy");
    }
  });
}

function isAbout(policies: readonly JudgingPolicy[], images: readonly string[]): boolean {
  const { governed, exempted, refused } = planImages(images, { policies, unmatched: "allowed" });
  return governed.length > 0 || exempted.length > 0 || refused !== undefined;
}
