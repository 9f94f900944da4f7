import { checkStatus } from "../../src/domain/invariants.ts";
import { asArray, asObject, asText, at } from "../../src/lib/json.ts";
import type { StageSetStatus } from "../../src/api/stage-set.ts";
import type { TestCluster } from "../support/cluster.ts";
import type { FaultProxy, SeenCall } from "../support/fault-proxy.ts";
import { actedAnnotation } from "./release.ts";

/** Kinds of the reference release, by plural. */
const appliedKinds: Readonly<Record<string, { readonly apiVersion: string; readonly kind: string }>> = {
  configmaps: { apiVersion: "v1", kind: "ConfigMap" },
  secrets: { apiVersion: "v1", kind: "Secret" },
  services: { apiVersion: "v1", kind: "Service" },
  serviceaccounts: { apiVersion: "v1", kind: "ServiceAccount" },
  persistentvolumeclaims: { apiVersion: "v1", kind: "PersistentVolumeClaim" },
  deployments: { apiVersion: "apps/v1", kind: "Deployment" },
};

const ownerName = "stages.metio.wtf/name";

/** What a request is about. */
interface Address {
  readonly plural: string;
  readonly name: string;
  readonly subresource: string;
}

/**
 * Watches what controllers send and what the server acknowledges for one StageSet, through any number of proxies, and
 * notes each breach of what must hold at every write (spec 20 E1–E4, O2 and O7 of the fault tests).
 */
export interface Monitor {
  /** Follows the traffic of a controller whose own credential is `token`. */
  attach(proxy: FaultProxy, token: string): void;
  readonly violations: readonly string[];
  /** Creates and deletes the server acknowledged, by kind and name of the object. */
  counts(): Readonly<Record<string, string>>;
}

export function createMonitor(
  cluster: Pick<TestCluster, "admin">,
  { namespace, name }: { readonly namespace: string; readonly name: string },
): Monitor {
  const { admin } = cluster;
  const violations: string[] = [];
  /** Ids by shard, as acknowledged. */
  const shards = new Map<string, ReadonlySet<string>>();
  let stageSet: unknown;
  const created = new Map<string, number>();
  const deleted = new Map<string, number>();
  const report = (what: string): void => void violations.push(what);

  const advance = (object: unknown): void => {
    const next = newer(object, stageSet);
    if (next !== stageSet) checkCarriedOver(next, stageSet, report);
    stageSet = next;
  };
  const recorded = (without?: string): ReadonlySet<string> =>
    new Set([...shards].flatMap(([shard, ids]) => (shard === without ? [] : [...ids])));
  const isOurs = async (id: string): Promise<boolean> => {
    const [, objectName = "", group = "", kind = ""] = /^[^_]*_(.*)_([^_]*)_([^_]*)$/.exec(id) ?? [];
    const known = Object.values(appliedKinds).find((each) => each.kind === kind);
    if (known === undefined) throw new Error(`the monitor does not know the kind of "${id}" (${group})`);
    const live = await admin.get({ ...known, metadata: { name: objectName, namespace } });
    return live?.metadata.labels?.[ownerName] === name && live.metadata.deletionTimestamp === undefined;
  };
  /** E2: an id leaves the records only when its object is gone or not ours any more. */
  const checkShrink = async (shard: string, after: ReadonlySet<string>): Promise<void> => {
    const elsewhere = recorded(shard);
    for (const id of shards.get(shard) ?? []) {
      if (after.has(id) || elsewhere.has(id)) continue;
      if (await isOurs(id)) report(`E2: "${id}" leaves the inventory while its object is there`);
    }
  };
  /** E1 and E3, before an object is written. */
  const checkApply = (address: Address, body: string): void => {
    const known = appliedKinds[address.plural];
    if (known === undefined) return;
    const group = known.apiVersion.includes("/") ? known.apiVersion.slice(0, known.apiVersion.indexOf("/")) : "";
    const id = `${namespace}_${address.name}_${group}_${known.kind}`;
    if (!recorded().has(id)) report(`E1: "${id}" is written and in no inventory`);
    const stage = asText(at(JSON.parse(body), "metadata", "labels", "stages.metio.wtf/stage"));
    const entries = asArray(at(stageSet, "status", "stages"));
    const names = asArray(at(stageSet, "spec", "stages")).map((each) => asText(at(each, "name")));
    const entry = entries.find((each) => at(each, "name") === stage);
    for (const earlier of names.slice(0, Math.max(0, names.indexOf(stage)))) {
      const before = entries.find((each) => at(each, "name") === earlier);
      const wanted = at(entry, "enteredRevision");
      if (at(before, "phase") !== "Ready" || at(before, "appliedRevision") !== wanted)
        report(
          `E3: stage "${stage ?? ""}" is written at "${String(wanted)}" before "${String(earlier)}" is Ready at it`,
        );
    }
  };
  /** E5, before an action is sent: one that is on record for what its stage has begun does not run again. */
  const checkAction = (body: string): void => {
    const marks = Object.keys(asObject(at(JSON.parse(body), "metadata", "annotations")) ?? {});
    for (const mark of marks.filter((each) => each.startsWith(actedAnnotation))) {
      const action = mark.slice(actedAnnotation.length);
      const entries = asArray(at(stageSet, "status", "stages"));
      const entry = entries.find((each) => at(each, "name") === action.slice(0, action.lastIndexOf("-")));
      const done = asArray(at(entry, "executedActions")).includes(action);
      if (done && at(entry, "ledgerRevision") === at(entry, "enteredRevision"))
        report(
          `E5: action "${action}" runs again although it is on record at "${String(at(entry, "ledgerRevision"))}"`,
        );
    }
  };
  const onCall = async (call: SeenCall, body: string, token: string): Promise<void> => {
    const address = parseAddress(call.target, namespace);
    if (address === undefined) return;
    if (address.plural in appliedKinds && address.subresource === "" && call.authorization === `Bearer ${token}`)
      report(`${call.method} ${call.target} is sent as the controller itself`);
    if (call.write === 0) return;
    if (address.plural === "stageinventories") {
      const after = call.method === "DELETE" ? new Set<string>() : idsOf(JSON.parse(body));
      await checkShrink(call.method === "POST" ? nameOf(body) : address.name, after);
    } else if (call.contentType.includes("apply-patch")) checkApply(address, body);
    else if (call.contentType.includes("strategic-merge-patch")) checkAction(body);
  };
  const onAnswer = (call: SeenCall, status: number, body: string): void => {
    const address = parseAddress(call.target, namespace);
    if (address === undefined || status >= 300) return;
    if (address.plural === "stagesets" && address.name === name && body.startsWith("{")) {
      const object: unknown = JSON.parse(body);
      // One that was refused, for it rested on something older, is no harm.
      if (call.write > 0 && address.subresource === "status") checkStatusWrite(object, stageSet, report);
      advance(object);
    }
    if (address.plural === "stagesets" && address.name === "") {
      const listed = asArray(at(JSON.parse(body), "items")).find((each) => at(each, "metadata", "name") === name);
      if (listed !== undefined) advance(listed);
    }
    if (call.write === 0) return;
    if (address.plural === "stageinventories") {
      if (call.method === "DELETE") shards.delete(address.name);
      else shards.set(asText(at(JSON.parse(body), "metadata", "name")) ?? "", idsOf(JSON.parse(body)));
    }
    if (!(address.plural in appliedKinds)) return;
    const object = `${address.plural}/${address.name}`;
    if (call.method === "DELETE") deleted.set(object, (deleted.get(object) ?? 0) + 1);
    else if (status === 201) created.set(object, (created.get(object) ?? 0) + 1);
  };
  return {
    attach(proxy, token) {
      const { onCall: before, onAnswer: after } = proxy;
      proxy.onCall = async (call, body) => {
        await onCall(call, body, token);
        return before?.(call, body);
      };
      proxy.onAnswer = async (call, status, body) => {
        onAnswer(call, status, body);
        await after?.(call, status, body);
      };
      const onEvent = proxy.onEvent;
      proxy.onEvent = (event) => {
        // Specs change without the controller: its view of them, or a newer one, is what it decides by.
        if (event.kind === "stagesets") {
          const object = at(JSON.parse(event.line), "object");
          if (at(object, "metadata", "name") === name) advance(object);
        }
        return onEvent?.(event);
      };
    },
    violations,
    counts: () =>
      Object.fromEntries(
        [...new Set([...created.keys(), ...deleted.keys()])]
          .sort()
          .map((object) => [object, `+${created.get(object) ?? 0} -${deleted.get(object) ?? 0}`]),
      ),
  };
}

/** What the engine never drops from a stage's entry: nothing here writes them, so they must stay (spec 10 §5.1). */
export const carriedOver = { ledgerRevision: "seeded", lastHandledReconcileAt: "seeded", executedActions: ["seeded"] };

function checkStatusWrite(body: unknown, before: unknown, report: (what: string) => void): void {
  // What the controller writes has been through its own types.
  const status = at(body, "status") as StageSetStatus;
  const generation = at(before, "metadata", "generation");
  try {
    checkStatus(status, typeof generation === "number" ? generation : Number.MAX_SAFE_INTEGER);
  } catch (error) {
    report(`status: ${String(error)}`);
  }
  const ready = status.conditions?.find((condition) => condition.type === "Ready");
  const isGoing = at(before, "metadata", "deletionTimestamp") !== undefined;
  if (!isGoing && ready?.status === "True" && status.stages?.some((stage) => stage.phase !== "Ready") === true)
    report(`E4: Ready is True and stages are ${JSON.stringify(status.stages.map((stage) => stage.phase))}`);
}

/** A write of a stage's entry must carry over what it does not change; the watch may show it before its answer does. */
function checkCarriedOver(after: unknown, before: unknown, report: (what: string) => void): void {
  for (const entry of asArray(at(before, "status", "stages"))) {
    const name = asText(at(entry, "name"));
    const kept = asArray(at(after, "status", "stages")).find((each) => at(each, "name") === name);
    if (kept === undefined) continue;
    for (const member of Object.keys(carriedOver))
      if (at(entry, member) !== undefined && at(kept, member) === undefined)
        report(`the entry of stage "${name ?? ""}" loses ${member}`);
  }
}

function newer(a: unknown, b: unknown): unknown {
  const versionOf = (object: unknown): number => Number(asText(at(object, "metadata", "resourceVersion")) ?? 0);
  return versionOf(a) >= versionOf(b) ? a : b;
}

function idsOf(shard: unknown): ReadonlySet<string> {
  return new Set(asArray(at(shard, "spec", "entries")).flatMap((entry) => asText(at(entry, "id")) ?? []));
}

function nameOf(body: string): string {
  return asText(at(JSON.parse(body), "metadata", "name")) ?? "";
}

function parseAddress(target: string, namespace: string): Address | undefined {
  const path = target.replace(/\?.*$/, "");
  const [, plural = "", name = "", subresource = ""] =
    new RegExp(`/namespaces/${namespace}/([a-z]+)(?:/([^/]+))?(?:/([^/]+))?$`).exec(path) ?? [];
  return plural === "" ? undefined : { plural, name, subresource };
}
