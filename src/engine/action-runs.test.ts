import { createServer, type Server } from "node:http";
import { describe, expect, test } from "vitest";
import type { ActionOutcome } from "../domain/actions/action-run.ts";
import { systemClock } from "../lib/clock.ts";
import { silentLogger } from "../lib/telemetry.ts";
import { createGuardedFetch } from "../outbound/guard.ts";
import { createActionRuns, type ActionRuns } from "./action-runs.ts";

const key = { namespace: "ns", name: "ss" };

type Listening = AsyncDisposable & { readonly url: string };

async function listening(server: Server): Promise<Listening> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server has no port");
  return {
    url: `http://127.0.0.1:${address.port}/`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A server that answers `/` with a redirect to `/next`; `onAsked` is told each path. */
async function startServer(onAsked: (path: string) => void): Promise<Listening> {
  const server = createServer(({ url = "" }, response) => {
    onAsked(url);
    if (url === "/") response.writeHead(307, { location: "/next" });
    response.end();
  });
  return listening(server);
}

function runsWhile(mayWrite: () => boolean): ActionRuns {
  return createActionRuns({
    clock: systemClock,
    logger: silentLogger,
    cel: { evaluate: () => Promise.reject(new Error("there is no expression")) } as never,
    random: () => 0,
    fetch: createGuardedFetch({ allowLoopback: true, clock: systemClock }),
    mayWrite,
    isAllowedHost: undefined,
    wake: () => undefined,
  });
}

function start(runs: ActionRuns, url: string, ended: (outcome: ActionOutcome) => void, onAccess?: () => void): void {
  const access = (): Promise<never> => {
    onAccess?.();
    // A request without Secrets asks nothing of a cluster.
    return Promise.resolve({} as never);
  };
  const action = { name: "call", http: { url }, retries: 3 };
  runs.start(key, {
    call: {
      ...{
        stage: "only",
        list: "post",
        action,
        as: { kind: "controller" },
        revision: "r1",
        ledgerKey: "r1",
        tokens: [],
        after: "",
      },
      ...{ generation: 1, uid: "u" },
    },
    access,
    homeAccess: access,
    isRemote: false,
    judgesImages: () => false,
    judgePatch: () => Promise.resolve(),
    build: () => Promise.reject(new Error("nothing is built")),
    ended,
  });
}

describe("http actions and the lease", () => {
  test("[30.2] without it nothing is asked, and no attempt follows", async () => {
    const asked: string[] = [];
    await using server = await startServer((path) => asked.push(path));
    using runs = runsWhile(() => false);
    const outcome = await new Promise((resolve) => start(runs, server.url, resolve));
    expect(outcome).toMatchObject({ kind: "failed", cause: expect.stringContaining("the lease is not held") as never });
    expect(asked).toEqual([]);
  });

  test("[30.2] lost between two hops: the second one is not asked", async () => {
    const asked: string[] = [];
    let held = true;
    await using server = await startServer((path) => {
      asked.push(path);
      held = false;
    });
    using runs = runsWhile(() => held);
    const outcome = await new Promise((resolve) => start(runs, server.url, resolve));
    expect(outcome).toMatchObject({ kind: "failed", cause: expect.stringContaining("the lease is not held") as never });
    expect(asked).toEqual(["/"]);
  });

  test("held, all of it is asked", async () => {
    const asked: string[] = [];
    await using server = await startServer((path) => asked.push(path));
    using runs = runsWhile(() => true);
    const outcome = await new Promise((resolve) => start(runs, server.url, resolve));
    expect(outcome).toEqual({ kind: "completed", jobs: [] });
    expect(asked).toEqual(["/", "/next"]);
  });

  test("a pass that ends while the controller stops starts nothing", () => {
    const runs = runsWhile(() => true);
    runs[Symbol.dispose]();
    let begun = 0;
    // The first thing a run does, before anything is awaited.
    start(
      runs,
      "http://127.0.0.1:1/",
      () => undefined,
      () => begun++,
    );
    expect(begun).toBe(0);
    using others = runsWhile(() => true);
    start(
      others,
      "http://127.0.0.1:1/",
      () => undefined,
      () => begun++,
    );
    expect(begun).toBe(1);
  });
});

describe("http actions when the process stops", () => {
  test("[30.16] an exchange under way ends and is told, and no attempt follows one that fails", async () => {
    const answers: (() => void)[] = [];
    await using server = await startHolding(answers);
    using runs = runsWhile(() => true);
    const outcomes: ActionOutcome[] = [];
    start(runs, `${server.url}fine`, (outcome) => outcomes.push(outcome));
    await until(() => answers.length === 1);
    const draining = runs.drain();
    answers[0]?.();
    await draining;
    expect(outcomes).toMatchObject([{ kind: "completed" }]);

    using others = runsWhile(() => true);
    start(others, `${server.url}500`, (outcome) => outcomes.push(outcome));
    await until(() => answers.length === 2);
    const ended = others.drain();
    answers[1]?.();
    await ended;
    expect(answers).toHaveLength(2);
    expect(outcomes).toHaveLength(1);
  });

  test("without the lease nothing is waited for", async () => {
    const answers: (() => void)[] = [];
    let held = true;
    await using server = await startHolding(answers);
    using runs = runsWhile(() => held);
    const outcomes: ActionOutcome[] = [];
    start(runs, server.url, (outcome) => outcomes.push(outcome));
    await until(() => answers.length === 1);
    held = false;
    await runs.drain();
    expect(outcomes).toEqual([]);
  });
});

/** A server that answers when it is told to, `/500` with 500. */
async function startHolding(answers: (() => void)[]): Promise<Listening> {
  const server = createServer(({ url }, response) => {
    answers.push(() => {
      response.writeHead(url === "/500" ? 500 : 200);
      response.end();
    });
  });
  return listening(server);
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}
