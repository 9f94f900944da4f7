import { conflictDecision } from "../domain/conflict-policy.ts";
import type { RenderedObject } from "../domain/rendered.ts";
import { look, type ApplyOptions, type Look, type ObjectFailure } from "./apply-wave.ts";
import type { Fingerprint } from "./fingerprint.ts";
import { inFlight } from "./in-flight.ts";
import { servedAs } from "./target.ts";

/** An object of a later turn, with what is remembered of its last apply. */
export interface PreflightObject {
  readonly object: RenderedObject;
  readonly known: Fingerprint | undefined;
}

/** What applying objects would come to if their turn were now. */
export interface ObjectsPreflight {
  readonly failures: readonly ObjectFailure[];
  /** What can be written as it was looked at, if its turn comes soon. */
  readonly writes: ReadonlyMap<string, Look>;
  /** Objects of kinds and namespaces that are not there yet. */
  readonly unknown: readonly RenderedObject[];
}

/**
 * Dry-runs what is not known to be unchanged and writes nothing. Unlike an apply it waits for no kind to be served.
 *
 * @throws {KubeError} lost connections and refusals that are about no single object
 */
export async function preflightObjects(
  objects: readonly PreflightObject[],
  options: ApplyOptions,
): Promise<ObjectsPreflight> {
  const failures: ObjectFailure[] = [];
  const writes = new Map<string, Look>();
  const unknown: RenderedObject[] = [];
  await inFlight(objects, options.inFlight, async ({ object, known }) => {
    if (object.controls.reconcile === "disabled" || known?.hash === object.hash) return;
    if ((await servedAs(options, object)) === undefined) {
      unknown.push(object);
      return;
    }
    const found = await look(options, { object, known });
    if (found.kind === "failed" && found.failure.outlook === "unknown") unknown.push(object);
    else if (found.kind === "failed") failures.push(found.failure);
    // What is created only if nobody else does is looked at again.
    else if (found.kind === "write" && conflictDecision(object, options.policy).action !== "KeepExisting")
      writes.set(object.id, found);
  });
  const order = new Map(objects.map(({ object }, index) => [object.id, index]));
  const placed = (id: string): number => order.get(id) ?? 0;
  return { failures: failures.toSorted((a, b) => placed(a.id) - placed(b.id)), writes, unknown };
}
