import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { startArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { controllerToken } from "../support/controller-account.ts";
import { startControllerProcess } from "../support/controller-process.ts";
import { inspect, inspected, type Holdings, type Inspector } from "../support/inspected-program.ts";
import { describeFigures, loadFigures, saveFigures } from "./campaign.ts";
import { startFlakyServer } from "./flaky-server.ts";
import { addCounts, collectionTimeoutMs, noCounts, Play } from "./play-release.ts";
import { bugsIn } from "./run-plan.ts";

const cluster = testCluster();

// Set by scripts/test-faults.ts.
const minutes = Number(process.env["STAGESET_FAULT_SOAK"] ?? 0);
const seed = Number(process.env["STAGESET_FAULT_SEED"] ?? 1);
const resumeFile = process.env["STAGESET_FAULT_RESUME"];
/** Without a time to last. */
const boundedRounds = 4;
/** Rounds that make the program warm; of a time to last a quarter. */
const warmRounds = 2;
const atOnce = 6;
const edits = 3;
const mib = 2 ** 20;
/** What single figures differ by from round to round. */
const mostMib = 2;
/** More than two looks at a program that does nothing differ by. */
const fewAtOnce = 6;

/** Of some looks: the last round's connections and watches are kept for some seconds. */
async function lowest(inspector: Inspector): Promise<Holdings> {
  let least = await inspector.holdings();
  for (let look = 0; look < 5; look++) {
    await delay(2_000);
    const next = await inspector.holdings();
    least = {
      bytes: Math.min(least.bytes, next.bytes),
      descriptors: Math.min(least.descriptors, next.descriptors),
      timers: Math.min(least.timers, next.timers),
    };
  }
  return least;
}

test(
  "a program that releases, prunes and tears down for long holds on to nothing: memory, sockets, timers",
  async () => {
    const figures = await loadFigures(resumeFile, seed);
    const namespace = await uniqueNamespace(cluster);
    for (const name of ["deployer", "other"]) await createServiceAccount(cluster, { namespace, name, rules: allRules });
    await using server = await startArtifactServer();
    await using proxy = await startFlakyServer(cluster, { share: 0.01, seed });
    await using program = await startControllerProcess({
      server: proxy.server,
      token: await controllerToken(cluster),
      namespaces: [namespace],
      env: inspected,
    });
    const inspector = await inspect(program);
    const total = noCounts();
    const rounds: Holdings[] = [];
    const startedAt = performance.now();
    const minutesSince = (at: number): number => (performance.now() - at) / 60_000;
    const isOver = (): boolean => (minutes > 0 ? minutesSince(startedAt) >= minutes : rounds.length >= boundedRounds);
    const isWarm = (): boolean => rounds.length >= warmRounds && minutesSince(startedAt) >= minutes / 4;
    let warm: { readonly holds: Holdings; readonly at: number; readonly rounds: number } | undefined;
    while (!isOver()) {
      // The same ones in every round: renders are kept by their content, up to a bound that is far away.
      const plays = Array.from({ length: atOnce }, (_, index) => {
        return new Play({ cluster, namespace, server }, { name: `r${index}`, seed: seed + index });
      });
      await Promise.all(
        plays.map((play, index) =>
          play.run({ edits, patient: true }).catch((error: unknown) => {
            const logged = program.log().split("\n");
            const own = logged.filter((line) => line.includes(`"name":"r${index}"`)).slice(-20);
            throw new Error(`r${index}: ${String(error)}\n${[...play.log, ...own].join("\n")}`, { cause: error });
          }),
        ),
      );
      for (const play of plays) addCounts(total, play.counts);
      // Nothing is there any more: what is held now is held for nothing.
      rounds.push(await inspector.holdings());
      if (warm === undefined && isWarm())
        warm = { holds: await lowest(inspector), at: performance.now(), rounds: rounds.length };
    }
    if (warm === undefined) throw new Error("the time was over before the program was warm");
    const first = warm.holds;
    const since = (now: Holdings): Holdings => ({
      bytes: now.bytes - first.bytes,
      descriptors: now.descriptors - first.descriptors,
      timers: now.timers - first.timers,
    });
    const played = (rounds.length - warm.rounds) * atOnce;
    // Half of what one of each per release comes to that is never given back.
    const limit = Math.max(fewAtOnce, played / 2);
    const isFlat = ({ bytes, descriptors, timers }: Holdings): boolean =>
      bytes / mib < mostMib && descriptors < limit && timers < limit;
    let grown = since(await lowest(inspector));
    // What is kept for a while is given back; what is not is told below.
    for (let look = 0; look < 6 && !isFlat(grown); look++) grown = since(await lowest(inspector));
    figures.soak = {
      minutes: figures.soak.minutes + minutesSince(warm.at),
      releases: figures.soak.releases + played,
      grownBytes: figures.soak.grownBytes + grown.bytes,
      grownDescriptors: figures.soak.grownDescriptors + grown.descriptors,
      grownTimers: figures.soak.grownTimers + grown.timers,
    };
    await saveFigures(resumeFile, figures);
    console.log(
      `${rounds.length * atOnce} releases with ${total.edits} edits: ${JSON.stringify(grown)} more than when it was warm; ` +
        `after each round ${rounds.map(({ bytes, descriptors, timers }) => `${(bytes / mib).toFixed(2)} MiB ${descriptors} ${timers}`).join(", ")}` +
        (resumeFile === undefined ? "" : `; over all slices: ${describeFigures(figures)}`),
    );
    expect(bugsIn(program.log())).toEqual([]);
    expect(isFlat(grown), JSON.stringify({ grown, limit, mostMib })).toBe(true);
    const hours = figures.soak.minutes / 60;
    if (hours >= 1) expect(figures.soak.grownBytes / mib / hours, "MiB in an hour").toBeLessThan(1);
  },
  minutes * 60_000 + collectionTimeoutMs + 600_000,
);
