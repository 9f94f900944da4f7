import { systemClock } from "../lib/clock.ts";
import { createLogger } from "../observe/logger.ts";
import { commit } from "./build-info.ts";
import { readConfig } from "./config.ts";
import { keepHeapSmall } from "./heap.ts";
import { startController } from "./start-controller.ts";
import { StartError } from "./start-error.ts";
import { version } from "./version.ts";

/** Bound of a clean stop; an overrun exits with 1 (spec 60 §1). */
const longestStopMs = 30_000;

const exitCode = await main();
process.exit(exitCode);

async function main(): Promise<number> {
  const read = readConfig(process.argv.slice(2), process.env, version);
  if (read.kind === "show") {
    process.stdout.write(read.text);
    return 0;
  }
  if (read.kind === "invalid") {
    for (const problem of read.problems) process.stderr.write(`stageset-controller: ${problem}\n`);
    return 2;
  }
  const { config } = read;
  const logger = createLogger({
    level: config.logLevel,
    format: config.logFormat,
    clock: systemClock,
    write: (line) => process.stderr.write(`${line}\n`),
  });
  const setup = logger.with({ logger: "setup" });
  setup.info("starting stageset-controller", { version, commit });
  const stop = Promise.withResolvers<"signal">();
  let signals = 0;
  for (const name of ["SIGINT", "SIGTERM"] as const)
    process.on(name, () => {
      if (++signals > 1) process.exit(1);
      stop.resolve("signal");
    });
  using _heap = keepHeapSmall(systemClock);
  try {
    const controller = await startController({ config, logger });
    const failed = controller.failed.then((error) => ({ message: "the controller cannot go on", error }));
    const lost = controller.leadershipLost.then((error) => ({ message: "leadership is lost", error }));
    const why = await Promise.race([stop.promise, lost, failed]);
    if (why !== "signal") {
      setup.error(why.message, { error: why.error });
      return 1;
    }
    setup.info("stopping");
    const overrun = Promise.withResolvers<"overrun">();
    const timer = systemClock.timer(longestStopMs, () => overrun.resolve("overrun"));
    const stopped = await Promise.race([controller[Symbol.asyncDispose]().then(() => "stopped"), overrun.promise]);
    timer[Symbol.dispose]();
    return stopped === "stopped" ? 0 : 1;
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    process.stderr.write(`stageset-controller: ${error.message}\n`);
    return 1;
  }
}
