/** Names on the wire, spec 10 §11. */

/** On every object a stage or an apply action applies: the owning StageSet. Both must match before any delete. */
export const nameLabel = "stages.metio.wtf/name";
export const namespaceLabel = "stages.metio.wtf/namespace";

/** Lease of the replica that works. Also guards image swaps: two builds never reconcile together (spec 60 §4). */
export const leaderLeaseName = "stageset-controller.stages.metio.wtf";

/** On every object a stage applies, and on StageInventory: the stage. */
export const stageLabel = "stages.metio.wtf/stage";

/** On StageInventory: the StageSet. */
export const inventoryStageSetLabel = "stages.metio.wtf/stage-set";

/** On StageInventory: the decimal index of the shard. */
export const inventoryShardLabel = "stages.metio.wtf/shard";

/** On Jobs of job actions, which carry none of the owner labels. */
export const actionLabel = "stages.metio.wtf/action";
export const actionRunAnnotation = "stages.metio.wtf/action-run";
/** On them: after which completion on record the Job was made. */
export const actionAfterAnnotation = "stages.metio.wtf/action-after";

/** On StageInventory: the identity that applied the objects. */
export const serviceAccountAnnotation = "stages.metio.wtf/service-account";

/** On shard 0 of an inventory: the cluster the objects are in. */
export const targetAnnotation = "stages.metio.wtf/target";

/** In the metadata of events. */
export const revisionAnnotation = "stages.metio.wtf/revision";

/** Token: reconcile now. */
export const requestedAtAnnotation = "reconcile.fluxcd.io/requestedAt";
/** `<stage>@<token>`: forget the stage's Revision ledger once. */
export const reconcileStageAnnotation = "stages.metio.wtf/reconcile-stage";
/** `<stage>@<token>`: pass the stage's promotion gate once. */
export const promoteAnnotation = "stages.metio.wtf/promote";
/** Token: let a roll-out held by a window through once. */
export const updateNowAnnotation = "stages.metio.wtf/update-now";
/** Token: ignore the StageSet's error budgets once. */
export const budgetOverrideAnnotation = "stages.metio.wtf/budget-override";
/** Token: forget every stage's Version ledger once. */
export const resetScopeAnnotation = "stages.metio.wtf/reset-scope";
/** Version: approve exactly that one. */
export const approvedVersionAnnotation = "stages.metio.wtf/approved-version";
/** Version: go back to its snapshot, once for each value. */
export const rollbackToAnnotation = "stages.metio.wtf/rollback-to";
/** Reason: do not verify images of the revisions pinned when the value is first used. */
export const skipImageVerificationAnnotation = "stages.metio.wtf/skip-image-verification";
/** Version: taken as deployed while the status names none. */
export const baselineVersionAnnotation = "stages.metio.wtf/baseline-version";

/** `disabled`: a release is not dry-run as a whole before its first stage is applied. */
export const preflightAnnotation = "stages.metio.wtf/preflight";

/** Every annotation that is read from a StageSet; a change of any of them is a reason to reconcile. */
export const stageSetAnnotations = [
  requestedAtAnnotation,
  reconcileStageAnnotation,
  promoteAnnotation,
  updateNowAnnotation,
  budgetOverrideAnnotation,
  resetScopeAnnotation,
  approvedVersionAnnotation,
  rollbackToAnnotation,
  skipImageVerificationAnnotation,
  baselineVersionAnnotation,
  preflightAnnotation,
] as const;

/** Longest value that is read where a token is meant, in bytes. */
export const maxTokenBytes = 256;

/** Marks a rendered object as a hook of a Helm chart. */
export const helmHookAnnotation = "helm.sh/hook";

/** On StageSet only. */
export const finalizer = "stages.metio.wtf/finalizer";

/** Field manager of every write of the controller, and of stage objects applied by the command line. */
export const fieldManager = "stageset-controller";
/** Field manager of all other writes of the command line. */
export const commandLineFieldManager = "stagesetctl";
/** Field manager of writes asked for over MCP. */
export const mcpFieldManager = "stageset-controller-mcp";

/** Reporting controllers of events. */
export const stageSetReporter = "stageset-controller";
export const fleetRolloutReporter = "fleetrollout-controller";

/** A key of an object, as label or annotation, with the value that switches the control on; values in any case. */
export interface ControlKey {
  readonly key: string;
  readonly values: readonly string[];
}

/** What an object's author can ask of the controller for that object, spec 20 §6.6. */
export const objectControls = {
  /** Never deleted; also read on the live object. */
  neverDelete: [control("stages.metio.wtf/prune", "disabled"), flux("prune", "disabled")],
  /** Recreated on an immutable conflict, before any policy. */
  recreate: [control("stages.metio.wtf/force", "enabled", "true"), flux("force", "enabled")],
  /** Created if absent, else left alone. */
  keepExisting: [control("stages.metio.wtf/keep-existing", "true"), flux("ssa", "ifnotpresent")],
  /** Not applied, not deleted, not waited for; also read on the live object. */
  notReconciled: [
    control("stages.metio.wtf/reconcile", "disabled"),
    flux("reconcile", "disabled"),
    flux("ssa", "ignore"),
  ],
  /** No variable is substituted. */
  notSubstituted: [control("stages.metio.wtf/substitute", "disabled"), flux("substitute", "disabled")],
} as const satisfies Readonly<Record<string, readonly ControlKey[]>>;

export type ObjectControl = keyof typeof objectControls;

/** Any other value than `enabled` and `true` is ignored with a warning. */
export const forceKey = "stages.metio.wtf/force";

function control(key: string, ...values: readonly string[]): ControlKey {
  return { key, values };
}

function flux(name: string, ...values: readonly string[]): ControlKey {
  return { key: `kustomize.toolkit.fluxcd.io/${name}`, values };
}

interface Marked {
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
}

/** Whether an object's labels or annotations switch a control on. */
export function hasControl({ labels = {}, annotations = {} }: Marked, wanted: ObjectControl): boolean {
  return objectControls[wanted].some(({ key, values }) =>
    [labels, annotations].some((map) => {
      const value = Object.hasOwn(map, key) ? map[key] : undefined;
      return value !== undefined && values.includes(value.toLowerCase());
    }),
  );
}
