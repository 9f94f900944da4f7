import { describeObject } from "../domain/object-id.ts";
import type { RenderedObject } from "../domain/rendered.ts";
import type { AppliedObject } from "../apply/apply-wave.ts";
import type { Access } from "../identity/access.ts";
import type { Engine } from "./engine.ts";
import { afterCorrection, withinMs } from "./fight.ts";
import type { Pass } from "./pass.ts";

/** Objects whose corrections are remembered, per StageSet; past it the oldest may be fought over a little longer. */
const mostRemembered = 200;

/**
 * Takes note of how an object was found in a steady pass. One that another manager keeps changing is left to the looks
 * on the interval, with an Event that names the manager; the fight is over when such a look finds nothing to correct.
 */
export function noteDrift(
  engine: Engine,
  pass: Pass,
  found: {
    readonly stage: string;
    readonly object: RenderedObject;
    readonly done: AppliedObject;
    readonly access: Access;
  },
): void {
  const { object, done, access } = found;
  // Left alone by request: nothing was corrected.
  if (done.change === "kept") return;
  const { fights } = pass.session;
  const before = fights.get(object.id);
  if (done.change === "unchanged" || done.change === "vouched") {
    if (before === undefined || (before.contested && pass.causes.has("drift"))) return;
    const now = engine.clock.monotonic();
    if (!before.contested && before.times.some((time) => now - time < withinMs)) return;
    fights.delete(object.id);
    engine.observer.contest(pass.key, access, { id: object, contested: false });
    return;
  }
  const rival = done.rival ?? "somebody who deletes it";
  const fight = afterCorrection(before, { rival, now: engine.clock.monotonic() });
  fights.delete(object.id);
  fights.set(object.id, fight);
  const oldest = fights.keys().next().value;
  if (fights.size > mostRemembered && oldest !== undefined) fights.delete(oldest);
  if (!fight.contested) return;
  engine.observer.contest(pass.key, access, { id: object, contested: true });
  if (before?.contested === true) return;
  pass.report.event({
    type: "Warning",
    reason: "DriftContested",
    note:
      `${describeObject(object)} of stage "${found.stage}" was corrected ${fight.times.length} times in 10m against "${rival}": ` +
      "from now on it is corrected on the interval only; let KeepExisting leave it alone, or the manifest leave out what the other manager owns",
    once: undefined,
  });
}
