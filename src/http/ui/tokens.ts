import { deadline } from "../../lib/abort.ts";
import { createFairLimiter } from "../../lib/fair-limiter.ts";
import type { Clock } from "../../lib/clock.ts";
import type { HttpRequest } from "../message.ts";

/** A user as the API server has authenticated them. */
export interface AuthenticatedUser {
  readonly username: string;
  readonly uid: string;
  readonly groups: readonly string[];
  readonly extra: Readonly<Record<string, readonly string[]>>;
}

/** How long the API server's word counts: a token that is taken away ends within a minute, a new one begins after ten seconds. */
const yesForMs = 60_000;
const noForMs = 10_000;
/** Of each kind; beyond, the one that was reviewed longest ago goes. */
const mostKnown = 1_000;
const mostRefused = 1_000;
const reviewTimeoutMs = 3_000;
/** Longer than any token an API server issues; what is longer is nobody's. */
const longestToken = 12 * 1024;
/** Reviews of tokens nobody has been seen with: anybody can invent those, so they wait for each other alone. */
const unknownLimits = { burst: 20, perSecond: 10, places: 4, placesPerGroup: 4 };
/** Further ones are told to come again. */
export const mostUnknownWaiting = 32;
/** Reviews anew, of tokens that were good before. */
const knownLimits = { burst: 50, perSecond: 50, places: 8, placesPerGroup: 8 };

export interface Tokens {
  /**
   * Whose token it is; undefined: nobody's.
   *
   * @param id - tells tokens apart and is kept; the token itself is not
   * @throws when it cannot be told now
   */
  userOf(token: string, id: string): Promise<AuthenticatedUser | undefined>;
}

/** Whose tokens are, by a review that is asked again when it is old. No token can make another be forgotten that is good. */
export function createTokens({
  clock,
  authenticate,
}: {
  readonly clock: Clock;
  readonly authenticate: (token: string, o: { readonly signal: AbortSignal }) => Promise<AuthenticatedUser | undefined>;
}): Tokens {
  const known = new Map<string, { readonly user: AuthenticatedUser; readonly until: number }>();
  const refusedUntil = new Map<string, number>();
  const underWay = new Map<string, Promise<AuthenticatedUser | undefined>>();
  const limiters = {
    known: createFairLimiter({ clock, ...knownLimits }),
    unknown: createFairLimiter({ clock, ...unknownLimits }),
  };

  const review = async (token: string, id: string): Promise<AuthenticatedUser | undefined> => {
    const limiter = limiters[known.has(id) ? "known" : "unknown"];
    if (limiter === limiters.unknown && limiter.waiting >= mostUnknownWaiting)
      throw new Error("too many unknown tokens wait for their review");
    let user: AuthenticatedUser | undefined;
    {
      using wait = deadline(clock, { timeoutMs: reviewTimeoutMs, what: "waiting to review a token" });
      using _place = await limiter.acquire("", wait.signal);
      using limit = deadline(clock, { timeoutMs: reviewTimeoutMs, what: "reviewing a token" });
      user = await authenticate(token, { signal: limit.signal });
    }
    const now = clock.monotonic();
    known.delete(id);
    if (user === undefined) keep(refusedUntil, mostRefused, [id, now + noForMs]);
    else keep(known, mostKnown, [id, { user, until: now + yesForMs }]);
    return user;
  };
  return {
    async userOf(token, id) {
      const now = clock.monotonic();
      const before = known.get(id);
      if (before !== undefined && now < before.until) return before.user;
      if (now < (refusedUntil.get(id) ?? -Infinity)) return undefined;
      const running = underWay.get(id);
      if (running !== undefined) return running;
      const started = review(token, id).finally(() => underWay.delete(id));
      underWay.set(id, started);
      return started;
    },
  };
}

/** Puts an entry last; the first goes when there are more than `most`. */
function keep<T>(entries: Map<string, T>, most: number, [key, value]: readonly [string, T]): void {
  entries.delete(key);
  entries.set(key, value);
  for (const oldest of entries.keys()) {
    if (entries.size <= most) break;
    entries.delete(oldest);
  }
}

/** The token of `Authorization: Bearer …` (RFC 6750 §2.1); undefined: there is none, or none that could be good. */
export function bearerOf(request: HttpRequest): string | undefined {
  const token = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(request.header("authorization")?.trim() ?? "")?.[1];
  return token === undefined || token.length > longestToken || isBrokenJwt(token) ? undefined : token;
}

/** What begins as a JWT does and is none (RFC 7519 §7.2). Other tokens have no form of their own. */
function isBrokenJwt(token: string): boolean {
  if (!token.startsWith("eyJ")) return false;
  const [header = "", claims = "", signature = "", ...rest] = token.split(".");
  return signature === "" || rest.length > 0 || !isJsonObject(header) || !isJsonObject(claims);
}

function isJsonObject(base64Url: string): boolean {
  try {
    const value: unknown = JSON.parse(Buffer.from(base64Url, "base64url").toString("utf8"));
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}
