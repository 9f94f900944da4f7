import type { Server } from "node:http";
import type { Socket } from "node:net";
import type { Clock } from "../lib/clock.ts";

/**
 * What becomes of a request. `crowded`: all connections that are meant to be have one under way already. `flooding`: its
 * connection has sent more ahead of their answers than any client needs to, and was closed.
 */
export type Admission = "taken" | "crowded" | "flooding";

/** The connections of one listener, which clients share whether they behave or not. */
export interface Connections {
  began(socket: Socket): Admission;
  /** A request that was taken is answered, or its client went away. */
  ended(socket: Socket): void;
}

export interface ConnectionBounds {
  /** Connections that are kept. */
  readonly limit: number;
  /** Those that came at once are accepted up to here, for as long as it takes them to send what they came for. */
  readonly atOnce: number;
  /** Requests a connection may send ahead of their answers. */
  readonly unansweredPerConnection: number;
  readonly clock: Clock;
}

/** A connection that has no request under way is left alone for this long. */
const graceMs = 100;

/**
 * Keeps a server at `limit` connections: beyond it the one that has been without a request for longest is closed, so that
 * whoever holds connections open without asking, or sends headers without end, keeps nobody out.
 */
export function boundConnections(server: Server, bounds: ConnectionBounds): Connections {
  const { limit, atOnce, unansweredPerConnection, clock } = bounds;
  const unanswered = new Map<Socket, number>();
  // Since when each has been without a request, the longest first.
  const idle = new Map<Socket, number>();
  let timer: Disposable | undefined;

  const trim = (): void => {
    const now = clock.monotonic();
    for (const [socket, since] of idle) {
      if (unanswered.size <= limit) return;
      if (now - since < graceMs) {
        timer ??= clock.timer(since + graceMs - now, () => {
          timer = undefined;
          trim();
        });
        return;
      }
      forget(socket);
      socket.destroySoon();
    }
  };
  const forget = (socket: Socket): void => {
    idle.delete(socket);
    unanswered.delete(socket);
  };
  server.on("connection", (socket: Socket) => {
    if (unanswered.size >= atOnce) {
      socket.destroy();
      return;
    }
    unanswered.set(socket, 0);
    idle.set(socket, clock.monotonic());
    socket.once("close", () => forget(socket));
    trim();
  });
  return {
    began(socket) {
      const count = unanswered.get(socket);
      if (count === undefined || count >= unansweredPerConnection) {
        socket.destroy();
        return "flooding";
      }
      if (count === 0 && unanswered.size - idle.size >= limit) return "crowded";
      unanswered.set(socket, count + 1);
      idle.delete(socket);
      return "taken";
    },
    ended(socket) {
      const count = unanswered.get(socket);
      if (count === undefined) return;
      unanswered.set(socket, count - 1);
      if (count === 1) idle.set(socket, clock.monotonic());
      trim();
    },
  };
}
