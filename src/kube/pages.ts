import { asText, at } from "../lib/json.ts";
import { KubeError } from "./error.ts";

/** Of one list; far more than any cluster has: 100,000 objects where a page has the fewest. */
export const mostPages = 1000;

/** Follows one list from page to page: the token of the next, undefined after the last. */
export type FollowPages = (page: unknown) => string | undefined;

/**
 * For one list, of `what`, from its start. What it returns throws {@link KubeError} `TooLarge` after {@link mostPages}:
 * a server may go on for ever.
 */
export function createPageFollower(what: string): FollowPages {
  let pages = 0;
  return (page) => {
    const next = asText(at(page, "metadata", "continue"));
    if (next === undefined || next === "") return undefined;
    if (++pages >= mostPages) throw endlessList(what);
    return next;
  };
}

export function endlessList(what: string): KubeError {
  return new KubeError({
    reason: "TooLarge",
    message: `Cannot list ${what}: the list has more than ${mostPages} pages`,
  });
}
