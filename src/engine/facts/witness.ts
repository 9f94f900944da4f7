import { failure } from "../../domain/failure.ts";
import type { Fact, FactKey, WitnessFound } from "../../domain/pass/state.ts";
import type { Access } from "../../identity/access.ts";
import { IdentityError } from "../../identity/identity-error.ts";
import { isKubeError, KubeError } from "../../kube/error.ts";
import { getRequest } from "../../kube/request.ts";
import { isAuthorizationRefusal } from "../../kube/refusal.ts";
import { asText, at } from "../../lib/json.ts";
import { joinApiVersion, splitApiVersion } from "../../lib/kube-object.ts";
import type { Engine } from "../engine.ts";
import type { Pass } from "../pass.ts";
import { accessOf } from "./connection.ts";

type WitnessKey = Extract<FactKey, { kind: "witness" }>;

/** Reads the StageLedger live, for what somebody else may have recorded. */
export async function readLedger(engine: Engine, pass: Pass, signal: AbortSignal): Promise<Fact> {
  try {
    await engine.journal.readLedger(pass.key, signal);
    return { kind: "ledger" };
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    const reason = isAuthorizationRefusal(error) ? "RBACDenied" : "StageFailed";
    return { kind: "failed", failure: failure(reason, `Cannot read the StageLedger: ${error.message}`) };
  }
}

/** Whether a witness is there; that it cannot be read is told when it begins (spec 30 §4.4). */
export async function readWitness(engine: Engine, pass: Pass, key: WitnessKey, signal: AbortSignal): Promise<Fact> {
  const found = await findWitness(engine, pass, key, signal);
  const { key: owner, session } = pass;
  const about = `${key.stage} ${key.action}`;
  if (found.kind !== "unreadable") session.unreadableAnchors.delete(about);
  else {
    engine.reports.anchorUnreadable(owner);
    if (!session.unreadableAnchors.has(about))
      pass.report.event({
        type: "Warning",
        reason: "LedgerAnchorUnreadable",
        note: `stage "${key.stage}": the witness of action "${key.action}" cannot be read, its completion is kept: ${found.why}`,
        once: undefined,
      });
    session.unreadableAnchors.add(about);
  }
  return { kind: "witness", found };
}

async function findWitness(engine: Engine, pass: Pass, key: WitnessKey, signal: AbortSignal): Promise<WitnessFound> {
  try {
    return await readAnchor(
      await accessOf(engine, pass, key.as, signal),
      { ...key.anchor, ...pass.key, object: key.anchor.name },
      signal,
    );
  } catch (error) {
    if (!(error instanceof KubeError) && !(error instanceof IdentityError)) throw error;
    return { kind: "unreadable", why: error.message };
  }
}

async function readAnchor(
  access: Access,
  anchor: { readonly apiVersion: string; readonly kind: string; readonly namespace: string; readonly object: string },
  signal: AbortSignal,
): Promise<WitnessFound> {
  const { group, version } = splitApiVersion(anchor.apiVersion);
  const resource = await access.discovery.find({ group, version, kind: anchor.kind }, { signal });
  if (resource === undefined)
    return { kind: "unreadable", why: `the target does not serve ${anchor.kind}.${joinApiVersion(group, version)}` };
  const where = { name: anchor.object, ...(resource.namespaced ? { namespace: anchor.namespace } : {}) };
  try {
    const live = await access.client.send(getRequest(resource, { ...where, metadataOnly: true }), { signal });
    const uid = asText(at(live, "metadata", "uid"));
    return uid === undefined ? { kind: "unreadable", why: "what was read has no uid" } : { kind: "there", uid };
  } catch (error) {
    if (isKubeError(error, "NotFound")) return { kind: "absent" };
    throw error;
  }
}
