import { createServer } from "node:net";

// Below the ports a system gives to connections by itself (from 32768 on Linux, higher elsewhere): one of those may be
// gone before the caller listens on it.
const first = 20_000;
const count = 12_000;
/** Processes that run at the same time begin in different places, and none gives a port twice in a row. */
let tried = process.pid * 61;

/** A TCP port on 127.0.0.1 that nobody listened on a moment ago. */
export async function freePort(): Promise<number> {
  for (let left = count; left > 0; left--) {
    const port = first + (tried++ % count);
    if (await canListen(port)) return port;
  }
  throw new Error(`Cannot find a free port on 127.0.0.1 from ${first} to ${first + count - 1}`);
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => void server.close(() => resolve(true)));
  });
}
