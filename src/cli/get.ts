import { stringify } from "yaml";
import { apiVersion } from "../api/group.ts";
import { readyOf } from "../domain/why/cause.ts";
import { ago, stagesOf, type StageView } from "../domain/why/stage-cause.ts";
import { explainWhy } from "../domain/why/why.ts";
import { asArray, asNumber, asObject, asText, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { exitCodes, type CommandIo } from "./command-io.ts";
import { openHub, type HubFlags } from "./hub.ts";
import { listStageSets, readStageSet } from "./read-stage-sets.ts";
import { printable, renderTable } from "./text.ts";

export interface GetFlags extends HubFlags {
  readonly allNamespaces: boolean;
  readonly output: "" | "yaml" | "json" | "wide" | "name";
  readonly selector?: string;
  readonly showManagedFields: boolean;
}

/**
 * `stagesetctl get [NAME]`: a table, or one StageSet in detail (spec 70 §5.1).
 *
 * @throws {CommandFailed} it cannot be read
 */
export async function runGet(name: string | undefined, flags: GetFlags, io: CommandIo): Promise<number> {
  await using hub = await openHub(flags, io);
  if (name !== undefined) {
    const { stageSet, now } = await readStageSet(hub, { namespace: hub.namespace, name }, io);
    io.out(renderOne(stageSet, flags, now));
    return exitCodes.done;
  }
  const namespace = flags.allNamespaces ? undefined : hub.namespace;
  const found = await listStageSets(hub, { namespace, labelSelector: flags.selector }, io);
  io.out(renderList(found, flags, io.clock.now()));
  return exitCodes.done;
}

function renderOne(stageSet: KubeObject, flags: GetFlags, now: number): string {
  switch (flags.output) {
    case "json":
    case "yaml":
      return machine(shown(stageSet, flags), flags.output);
    case "name":
      return `${objectName(stageSet)}\n`;
    case "wide":
      return renderRows([stageSet], flags, now);
    case "":
      return renderDetail(stageSet);
  }
}

function renderList(found: readonly KubeObject[], flags: GetFlags, now: number): string {
  switch (flags.output) {
    case "json":
    case "yaml": {
      const items = found.map((each) => shown(each, flags));
      return machine({ apiVersion, kind: "StageSetList", metadata: {}, items }, flags.output);
    }
    case "name":
      return found.map((each) => `${objectName(each)}\n`).join("");
    default:
      return found.length === 0 ? "No StageSets found.\n" : renderRows(found, flags, now);
  }
}

function machine(value: unknown, format: "json" | "yaml"): string {
  if (format === "json") return `${JSON.stringify(value, undefined, 2)}\n`;
  return stringify(value, { sortMapEntries: true, lineWidth: 0, aliasDuplicateObjects: false });
}

function shown(stageSet: KubeObject, { showManagedFields }: GetFlags): KubeObject {
  if (showManagedFields) return stageSet;
  const { managedFields: _managedFields, ...metadata } = stageSet.metadata;
  return { ...stageSet, metadata };
}

function objectName({ metadata }: KubeObject): string {
  return `stageset.stages.metio.wtf/${printable(metadata.name)}`;
}

function renderRows(found: readonly KubeObject[], flags: GetFlags, now: number): string {
  const isWide = flags.output === "wide";
  const head = [
    ...(flags.allNamespaces ? ["NAMESPACE"] : []),
    ...["NAME", "READY", "REASON", "STAGES", "VERSION", "PENDING"],
    ...(isWide ? ["HOLDING", "REVISION", "AGE"] : []),
  ];
  const rows = found.map((each) => {
    const ready = readyOf(at(each, "status"));
    const stages = stagesOf(each);
    return [
      ...(flags.allNamespaces ? [each.metadata.namespace] : []),
      each.metadata.name,
      ready?.status ?? "Unknown",
      isDeleting(each) ? "Deleting" : ready?.reason,
      `${stages.filter(({ phase }) => phase === "Ready").length}/${stages.length}`,
      asText(at(each, "status", "version")),
      pendingText(each),
      ...(isWide ? wideCells(each, now) : []),
    ];
  });
  return renderTable(head, rows);
}

function wideCells(stageSet: KubeObject, now: number): readonly (string | undefined)[] {
  const { cause } = explainWhy({ stageSet, now });
  const last = stagesOf(stageSet).findLast(({ phase }) => phase === "Ready");
  return [
    cause === undefined ? undefined : `${cause.stage === undefined ? "" : `${cause.stage}: `}${cause.message}`,
    asText(at(last?.entry, "appliedRevision")),
    ago(stageSet.metadata.creationTimestamp, now),
  ];
}

/** What windows hold back: `held`, with the opening where it is known. */
function pendingText(stageSet: KubeObject): string | undefined {
  const pending = asObject(at(stageSet, "status", "pendingUpdate"));
  if (pending === undefined) return undefined;
  const opens = asText(pending["nextWindowOpens"]);
  return opens === undefined ? "held" : `held until ${opens}`;
}

function isDeleting({ metadata }: KubeObject): boolean {
  return metadata.deletionTimestamp !== undefined;
}

function renderDetail(stageSet: KubeObject): string {
  const status = at(stageSet, "status");
  const text = (...path: readonly string[]): string | undefined => asText(at(status, ...path));
  const line = (label: string, value: string | undefined): readonly string[] =>
    value === undefined ? [] : [`${label}${printable(value)}`];
  const migrations = asArray(at(status, "pendingMigrations")).flatMap((each) => asText(at(each, "name")) ?? []);
  return [
    ...line("Name:       ", stageSet.metadata.name),
    ...line("Namespace:  ", stageSet.metadata.namespace ?? ""),
    ...line("Suspended:  ", at(stageSet, "spec", "suspend") === true ? "true" : undefined),
    ...line("Ready:      ", readyText(stageSet)),
    ...line("Message:    ", readyOf(status)?.message || undefined),
    ...line("Version:    ", text("version") ?? "-"),
    ...line("Pending version: ", text("pendingVersion")),
    ...line("Pending migrations: ", migrations.length === 0 ? undefined : migrations.join(", ")),
    ...line("Last handled reconcile: ", text("lastHandledReconcileAt")),
    ...line("Error budget: ", budgetText(at(status, "budgetFreeze"))),
    ...pendingLines(status),
    "Stages:",
    ...stageLines(stagesOf(stageSet)),
    "",
  ].join("\n");
}

function readyText(stageSet: KubeObject): string {
  const ready = readyOf(at(stageSet, "status"));
  const { generation } = stageSet.metadata;
  const observed = at(stageSet, "status", "observedGeneration");
  const isStale = typeof observed === "number" && generation !== undefined && observed < generation;
  const stale = isStale ? ` (stale: generation ${generation}, observed ${observed})` : "";
  const deleting = isDeleting(stageSet) ? " Deleting" : "";
  return `${ready === undefined ? "Unknown" : `${ready.status} (${ready.reason})`}${stale}${deleting}`;
}

function budgetText(freeze: unknown): string | undefined {
  const fields = asObject(freeze);
  if (fields === undefined) return undefined;
  const remaining = asText(fields["remaining"]) ?? "-";
  const resumes = asText(fields["resumeThreshold"]) ?? asText(fields["freezeThreshold"]) ?? "-";
  return `frozen, remaining ${remaining}, resumes at ${resumes}${fields["dryRun"] === true ? ", dry run" : ""}`;
}

function pendingLines(status: unknown): readonly string[] {
  const pending = asObject(at(status, "pendingUpdate"));
  if (pending === undefined) return [];
  const opens = asText(pending["nextWindowOpens"]);
  const held = Object.entries(asObject(pending["revisions"]) ?? {}).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return [
    "Pending update:",
    ...(opens === undefined ? [] : [`  Next window opens: ${printable(opens)}`]),
    ...held.map(([source, revision]) => `  Held: ${printable(source)} -> ${printable(String(revision))}`),
  ];
}

function stageLines(stages: readonly StageView[]): readonly string[] {
  const rows = stages.map(({ name, phase, entry }) => [
    name,
    phase,
    asText(at(entry, "appliedRevision")),
    String(asNumber(at(entry, "entriesCount")) ?? 0),
    gateText(entry),
  ]);
  const [head = "", ...lines] = renderTable(["NAME", "PHASE", "REVISION", "ENTRIES", "GATE"], rows)
    .trimEnd()
    .split("\n");
  return [
    `  ${head}`,
    ...lines.flatMap((line, index) => {
      const stage = stages[index];
      const message = stage?.phase === "Failed" ? asText(at(stage.entry, "message")) : undefined;
      return [`  ${line}`, ...(message === undefined ? [] : [`    ${printable(message)}`])];
    }),
  ];
}

/** The phase of the promotion gate, with its deadline. */
function gateText(entry: unknown): string | undefined {
  const phase = asText(at(entry, "promotionState", "phase"));
  const until = phase === "Soaking" ? asText(at(entry, "promotionState", "soakUntil")) : undefined;
  return phase === undefined ? undefined : `${phase}${until === undefined ? "" : ` until ${until}`}`;
}
