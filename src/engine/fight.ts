/** Corrections of one object, against the same manager, that make a fight (spec 20 §16.2). */
const mostCorrections = 5;
/** Of those. */
export const withinMs = 10 * 60_000;

/** Corrections of one object lately. */
export interface Fight {
  readonly rival: string;
  /** Monotonic ms, oldest first. */
  readonly times: readonly number[];
  readonly contested: boolean;
}

/** The fight after one more correction of what `rival` had changed. */
export function afterCorrection(
  before: Fight | undefined,
  { rival, now }: { readonly rival: string; readonly now: number },
): Fight {
  const earlier = before?.rival === rival ? before.times.filter((time) => now - time < withinMs) : [];
  const times = [...earlier, now].slice(-(mostCorrections + 1));
  return { rival, times, contested: times.length > mostCorrections || before?.contested === true };
}
