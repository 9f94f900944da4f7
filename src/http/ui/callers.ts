import { createHash } from "node:crypto";
import { deadline } from "../../lib/abort.ts";
import { createExpiringCache } from "../../lib/expiring-cache.ts";
import { createFairLimiter } from "../../lib/fair-limiter.ts";
import type { Clock } from "../../lib/clock.ts";
import type { HttpRequest } from "../message.ts";
import { bearerOf, createTokens, type AuthenticatedUser } from "./tokens.ts";

/** What somebody wants to read of our group; an empty namespace means all, an empty name any. */
export interface WantedAccess {
  readonly verb: "get" | "list";
  readonly resource: "stagesets" | "fleetrollouts";
  readonly namespace: string;
  readonly name: string;
}

/** Asks the API server who somebody is and what they may. Rejections mean that it cannot be told. */
export interface Reviews {
  /** Undefined: the token is nobody's. */
  authenticate(token: string, o: { readonly signal: AbortSignal }): Promise<AuthenticatedUser | undefined>;
  isAllowed(user: AuthenticatedUser, access: WantedAccess, o: { readonly signal: AbortSignal }): Promise<boolean>;
}

/** Whoever sent a request. */
export interface Caller {
  /** Tells callers apart where they share what is bounded; empty where nobody can be told apart. */
  readonly name: string;
  /** Whether the caller is still who they were: their token may run out under a long answer. */
  isValid(): Promise<boolean>;
  may(access: WantedAccess): Promise<boolean>;
}

export type Identified =
  | { readonly kind: "caller"; readonly caller: Caller }
  | { readonly kind: "unauthenticated" }
  | { readonly kind: "unknown" };

export interface Callers {
  /** `unauthenticated`: no token, or nobody's. `unknown`: the API server cannot be asked now. */
  identify(request: HttpRequest): Promise<Identified>;
}

/**
 * How long answers count: a right that is taken away ends within a minute, one that is given begins after ten seconds.
 * Refusals of lists count as long as consents: there is one per namespace, and lists ask for all of them.
 */
const yesForMs = 60_000;
const noForMs = 10_000;
const mostVerdicts = 20_000;
const reviewTimeoutMs = 3_000;
/** Reviews a second, and at once, of all callers; one caller gets a quarter of the places. */
const limits = { burst: 200, perSecond: 100, places: 16, placesPerGroup: 4 };
/** How long a review may wait for its turn, and how many of one token may. */
const turnTimeoutMs = 60_000;
export const mostWaitingPerToken = 2_000;

/** Without authentication everybody is one caller who may read everything. */
export function createOpenCallers(): Callers {
  const caller: Caller = { name: "", isValid: () => Promise.resolve(true), may: () => Promise.resolve(true) };
  return { identify: () => Promise.resolve({ kind: "caller", caller }) };
}

/** Callers by bearer token, each with the rights the API server says they have (spec 70 §9.9). */
export function createReviewedCallers(options: { readonly reviews: Reviews; readonly clock: Clock }): Callers {
  const { reviews, clock } = options;
  const tokens = createTokens({ clock, authenticate: (token, o) => reviews.authenticate(token, o) });
  const verdicts = createExpiringCache<boolean>({ clock, most: mostVerdicts });
  const limiter = createFairLimiter({ clock, ...limits });
  const waiting = new Map<string, number>();
  /** The time of a review is its own: waiting for others' does not use it up. */
  const review = async (id: string, ask: (signal: AbortSignal) => Promise<boolean>): Promise<boolean> => {
    const before = waiting.get(id) ?? 0;
    if (before >= mostWaitingPerToken) throw new Error("too many reviews of one token wait");
    waiting.set(id, before + 1);
    try {
      using turn = deadline(clock, { timeoutMs: turnTimeoutMs, what: "waiting to review a caller" });
      using _place = await limiter.acquire(id, turn.signal);
      using limit = deadline(clock, { timeoutMs: reviewTimeoutMs, what: "reviewing a caller" });
      return await ask(limit.signal);
    } finally {
      const left = (waiting.get(id) ?? 1) - 1;
      if (left === 0) waiting.delete(id);
      else waiting.set(id, left);
    }
  };
  const allowed = (user: AuthenticatedUser, id: string, access: WantedAccess): Promise<boolean> =>
    verdicts.get([id, access.verb, access.resource, access.namespace, access.name].join(" "), async () => {
      const value = await review(id, (signal) => reviews.isAllowed(user, access, { signal }));
      return { value, forMs: value || access.verb === "list" ? yesForMs : noForMs };
    });
  return {
    async identify(request) {
      const token = bearerOf(request);
      if (token === undefined) return { kind: "unauthenticated" };
      // What is kept in memory for a minute is no token.
      const id = createHash("sha256").update(token).digest("base64");
      let user: AuthenticatedUser | undefined;
      try {
        user = await tokens.userOf(token, id);
      } catch {
        return { kind: "unknown" };
      }
      if (user === undefined) return { kind: "unauthenticated" };
      const known = user;
      const caller: Caller = {
        name: known.username,
        isValid: async () => {
          const now = await tokens.userOf(token, id);
          return now?.username === known.username && now.uid === known.uid;
        },
        may: (access) => allowed(known, id, access),
      };
      return { kind: "caller", caller };
    },
  };
}
