import { abortable } from "../lib/abortable.ts";
import { deadline } from "../lib/abort.ts";
import type { Clock } from "../lib/clock.ts";

/** What is asked for; the server may grant another life. */
export const requestedLifeSeconds = 3600;

/** One mint may take this long, whoever waits for it. */
const mintTimeoutMs = 30_000;

/** A token is renewed when less is left than this, or than a fifth of its life. */
const renewBeforeMs = 300_000;
const renewShare = 0.2;

/** What a mint brought. `lifeMs` is what the server granted, by the server's own clock. */
export interface MintedToken {
  readonly token: string;
  readonly lifeMs: number;
}

export interface ServiceAccountName {
  readonly namespace: string;
  readonly name: string;
}

/** Tokens of ServiceAccounts, in memory only. */
export interface TokenCache {
  /**
   * A token with life left. All who ask at once share one mint; a waiter that gives up leaves it running.
   *
   * @throws what the mint threw, unless the token held still lives; nothing of a failure is kept
   * @throws the signal's reason, when it aborts first
   */
  get(account: ServiceAccountName, o: { readonly signal: AbortSignal }): Promise<string>;
  /**
   * Forgets the token, so that the next call mints; a mint in flight serves those who wait for it and is not kept.
   *
   * @param refused forget only if this is the token held: another call may have renewed it already
   */
  evict(account: ServiceAccountName, refused?: string): void;
}

interface Held {
  readonly token: string;
  readonly renewAt: number;
  readonly expiresAt: number;
}

/** Instants are monotonic: a corrected wall clock neither ends nor prolongs a token. */
export function createTokenCache({
  mint,
  clock,
  renewBefore = (lifeMs) => Math.min(renewBeforeMs, lifeMs * renewShare),
}: {
  /** How long before its end a token of such a life is renewed, ms. */
  readonly renewBefore?: (lifeMs: number) => number;
  readonly mint: (account: ServiceAccountName, o: { readonly signal: AbortSignal }) => Promise<MintedToken>;
  readonly clock: Clock;
}): TokenCache {
  const held = new Map<string, Held>();
  const minting = new Map<string, { readonly token: Promise<string> }>();

  const start = (key: string, account: ServiceAccountName): { readonly token: Promise<string> } => {
    const startedAt = clock.monotonic();
    const minted = Promise.withResolvers<string>();
    const entry = { token: minted.promise };
    // An eviction meanwhile took the entry away: what comes must not be kept.
    const isCurrent = (): boolean => minting.get(key) === entry;
    const settle = (finish: () => void): void => {
      if (isCurrent()) minting.delete(key);
      finish();
    };
    minting.set(key, entry);
    boundedMint(key, account).then(
      (answer) => {
        if (isCurrent()) held.set(key, heldSince(startedAt, answer, renewBefore));
        settle(() => minted.resolve(answer.token));
      },
      (error: unknown) => settle(() => minted.reject(error)),
    );
    return entry;
  };
  const boundedMint = async (key: string, account: ServiceAccountName): Promise<MintedToken> => {
    using limit = deadline(clock, { timeoutMs: mintTimeoutMs, what: `minting a token for "${key}"` });
    // Bounded here too: a mint that does not listen to its signal must not hold its waiters.
    return await abortable(mint(account, { signal: limit.signal }), limit.signal);
  };
  return {
    async get(account, { signal }) {
      const key = keyOf(account);
      const current = held.get(key);
      if (current !== undefined && clock.monotonic() < current.renewAt) return current.token;
      try {
        return await abortable((minting.get(key) ?? start(key, account)).token, signal);
      } catch (error) {
        if (signal.aborted || current === undefined || held.get(key) !== current) throw error;
        if (clock.monotonic() >= current.expiresAt) throw error;
        return current.token;
      }
    },
    evict(account, refused) {
      const key = keyOf(account);
      const current = held.get(key);
      if (refused !== undefined && current !== undefined && current.token !== refused) return;
      held.delete(key);
      minting.delete(key);
    },
  };
}

/** Counted from before the request was sent: the token cannot have been issued earlier. */
function heldSince(startedAt: number, { token, lifeMs }: MintedToken, renewBefore: (lifeMs: number) => number): Held {
  const expiresAt = startedAt + lifeMs;
  return { token, expiresAt, renewAt: expiresAt - renewBefore(lifeMs) };
}

function keyOf({ namespace, name }: ServiceAccountName): string {
  return `${namespace}/${name}`;
}
