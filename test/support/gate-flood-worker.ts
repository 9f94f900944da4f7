/** Keeps connections to a gate busy, in a thread of its own so that the tests' own clients are not held up by it. */
import { connect, type Socket } from "node:net";
import { parentPort, workerData } from "node:worker_threads";
import type { FloodSettings } from "./gate-flood.ts";

const { port, habits, pauseMs, againMs } = workerData as FloodSettings; // Given by gate-flood.ts.
const sockets = new Set<Socket>();
let answers = 0;
let open = 0;

for (const habit of habits) start(habit);
setInterval(() => parentPort?.postMessage({ answers, open }), 50);

function start(habit: FloodSettings["habits"][number]): void {
  const socket = connect({ host: "127.0.0.1", port });
  sockets.add(socket);
  let turn = 0;
  const ask = (): void => {
    if (socket.destroyed) return;
    if (habit === "slow") socket.write("GET /gate/a/b/c HTTP/1.1\r\nX-Slow: ");
    else if (habit !== "silent")
      socket.write(`GET ${habit[turn++ % habit.length] ?? ""} HTTP/1.1\r\nHost: gate\r\n\r\n`);
  };
  socket.on("error", () => undefined);
  socket.once("connect", () => {
    open++;
    socket.once("close", () => open--);
    ask();
  });
  socket.on("data", () => {
    answers++;
    setTimeout(ask, pauseMs);
  });
  socket.once("close", () => {
    sockets.delete(socket);
    setTimeout(() => start(habit), againMs);
  });
}
