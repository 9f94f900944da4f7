import { connect as connectTcp, isIP, type LookupFunction, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { deadline } from "../lib/abort.ts";
import { abortReason } from "../lib/abort-reason.ts";
import type { Clock } from "../lib/clock.ts";

const stepTimeoutMs = 10_000;
// Per address while more are left: one that swallows packets must not cost the whole time.
const addressTimeoutMs = 2_000;

/** Where to connect: addresses that were checked, and the name a server certificate must be for. */
export interface PinnedTarget {
  readonly addresses: readonly string[];
  readonly port: number;
  readonly name: string;
  /** A TLS client's further trust, PEM; undefined: plain TCP or the machine's own trust. */
  readonly tls: { readonly caPem?: string } | undefined;
}

/**
 * Opens a socket to one of the given addresses and no other; nothing is looked up. TCP and TLS take 10 s each at most.
 *
 * @throws {DeadlineExceeded} or the socket's error, or the signal's reason
 */
export async function connectPinned(
  target: PinnedTarget,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<Socket> {
  const plain = connectTcp({
    host: target.name,
    port: target.port,
    lookup: lookupOf(target.addresses),
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: addressTimeoutMs,
    noDelay: true,
  });
  await opened(plain, "connect", { what: "connecting", clock, signal });
  if (target.tls === undefined) return plain;
  const secured = connectTls({
    socket: plain,
    host: target.name,
    ...(isIP(target.name) === 0 ? { servername: target.name } : {}),
    ...(target.tls.caPem === undefined ? {} : { ca: target.tls.caPem }),
    ALPNProtocols: ["http/1.1"],
  });
  await opened(secured, "secureConnect", { what: "the TLS handshake", clock, signal });
  return secured;
}

function lookupOf(addresses: readonly string[]): LookupFunction {
  const found = addresses.map((address) => ({ address, family: isIP(address) }));
  return (_name, options, callback) => {
    const first = found[0];
    if (first === undefined) callback(new Error("no address to connect to"), "");
    else if (options.all === true) callback(null, [...found]);
    else callback(null, first.address, first.family);
  };
}

async function opened(
  socket: Socket,
  event: "connect" | "secureConnect",
  { what, clock, signal }: { readonly what: string; readonly clock: Clock; readonly signal: AbortSignal },
): Promise<void> {
  using limit = deadline(clock, { timeoutMs: stepTimeoutMs, what, parent: signal });
  try {
    await new Promise<void>((resolve, reject) => {
      const onAbort = (): void => reject(abortReason(limit.signal));
      if (limit.signal.aborted) onAbort();
      limit.signal.addEventListener("abort", onAbort, { once: true });
      socket.once(event, resolve);
      socket.once("error", reject);
      socket.once("close", () => reject(new Error("the connection was closed")));
    });
  } catch (error) {
    // A destroyed socket may still report what it was doing; nobody listens any more.
    socket.on("error", () => undefined);
    socket.destroy();
    throw error;
  }
}
