import { abortable } from "../../lib/abortable.ts";
import type { Access } from "../access.ts";
import { IdentityError } from "../identity-error.ts";
import type { RemoteConnection } from "./connection.ts";

export interface RenewingOptions {
  readonly key: string;
  readonly identity: string;
  /** Drops the connection whose credential was refused, reads the reference anew and gives another connection. */
  readonly renew: (refused: RemoteConnection, signal: AbortSignal) => Promise<RemoteConnection>;
}

/** Reading a reference anew may take as long as any request to the own cluster. */
const neverAborted = new AbortController().signal;

/**
 * Requests over a connection; after a 401 once more over a new one, for which the reference is read again (spec 50 §2.3).
 * That is safe, since authentication precedes any effect. All that are refused at once share one renewal.
 */
export function renewingAccess(first: RemoteConnection, { key, identity, renew }: RenewingOptions): Access {
  let current = first;
  let renewal: Promise<RemoteConnection> | undefined;

  const renewed = async (refused: RemoteConnection, signal: AbortSignal): Promise<RemoteConnection> => {
    if (refused !== current) return current;
    renewal ??= renew(refused, neverAborted)
      .then((fresh) => (current = fresh))
      .finally(() => {
        renewal = undefined;
      });
    return abortable(renewal, signal);
  };
  const twice = async <Result>(
    run: (connection: RemoteConnection) => Promise<Result>,
    signal: AbortSignal = neverAborted,
  ): Promise<Result> => {
    const used = current;
    try {
      return await run(used);
    } catch (error) {
      if (!isRefused(error)) throw error;
      return await run(await renewed(used, signal));
    }
  };
  return {
    key,
    client: {
      cluster: first.cluster,
      identity,
      send: (request, options) => twice((connection) => connection.send(request, options), options?.signal),
      async *stream(request, options) {
        const used = current;
        try {
          yield* used.stream(request, options);
        } catch (error) {
          // A stream that is refused has not begun.
          if (!isRefused(error)) throw error;
          yield* (await renewed(used, options.signal)).stream(request, options);
        }
      },
    },
    discovery: {
      find: (kind, o) => twice(({ discovery }) => discovery.find(kind, o), o.signal),
      preferredFor: (kind, o) => twice(({ discovery }) => discovery.preferredFor(kind, o), o.signal),
      all: (signal) => twice(({ discovery }) => discovery.all(signal), signal),
      invalidate: () => current.discovery.invalidate(),
    },
    connect: async (signal) => {
      await twice(({ discovery }) => discovery.all(signal), signal);
    },
  };
}

function isRefused(error: unknown): boolean {
  return error instanceof IdentityError && error.reason === "TargetUnauthorized";
}
