import { createServer } from "node:net";

/** A TCP port on 127.0.0.1 that nobody listened on a moment ago; someone may take it before the caller does. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => {
        if (typeof address === "object" && address !== null) resolve(address.port);
        else reject(new Error("Cannot find a free port on 127.0.0.1"));
      });
    });
  });
}
