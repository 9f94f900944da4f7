import type { ObjectId } from "../domain/object-id.ts";

/** One object the stage waits for, or an expression reads. */
export interface Awaited {
  readonly id: ObjectId;
  readonly version: string | undefined;
  /** Its own status counts, not only what expressions say of it. */
  readonly waitFor: boolean;
  /** Rendered by the stage, so it carries our labels. */
  readonly rendered: boolean;
  /** Some expression is about its kind. */
  readonly expressed: boolean;
  /** An applied Job that is removed some time after it ended: one that is not there has ended (spec 20 §9.3). */
  readonly expires: boolean;
}
