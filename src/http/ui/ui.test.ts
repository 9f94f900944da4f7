import { describe, expect, test } from "vitest";
import { at } from "../../lib/json.ts";
import { createManualClock } from "../../lib/clock.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import { silentLogger } from "../../lib/telemetry.ts";
import type { HttpResponse } from "../message.ts";
import { createAssets } from "./assets.ts";
import type { Caller, WantedAccess } from "./callers.ts";
import { isLocalHost } from "./hosts.ts";
import type { UiView } from "./ui-view.ts";
import { createUi } from "./ui.ts";

function stageSet(namespace: string, name: string): KubeObject {
  return {
    apiVersion: "stages.metio.wtf/v1",
    kind: "StageSet",
    metadata: { name, namespace, generation: 1 },
    status: { observedGeneration: 1, version: "1.0.0" },
  };
}

function scene(
  held: readonly KubeObject[],
  { may = () => Promise.resolve(true), hosts }: { may?: Caller["may"]; hosts?: (host: string) => boolean } = {},
) {
  const clock = createManualClock();
  let rows = 0;
  const view: UiView = {
    isSynced: () => true,
    stageSets: () => held,
    stageSet: (namespace, name) =>
      held.find(({ metadata }) => metadata.namespace === namespace && metadata.name === name),
    fleets: () => [],
    fleet: () => undefined,
    input: (each) => {
      rows++;
      return { stageSet: each, now: clock.now() };
    },
    subscribe: () => ({ [Symbol.dispose]: () => undefined }),
  };
  const ui = createUi({
    view,
    callers: {
      identify: (request) => {
        const name = request.header("authorization") ?? "";
        return Promise.resolve({ kind: "caller", caller: { name, isValid: () => Promise.resolve(true), may } });
      },
    },
    assets: createAssets(new Map([["index.html", Buffer.from("<title>page</title>")]])),
    hosts,
    clock,
    logger: silentLogger,
  });
  return {
    clock,
    rows: () => rows,
    ask: async (
      target: string,
      { method = "GET", by = "ann", host = "ui", signal = new AbortController().signal } = {},
    ): Promise<HttpResponse> => {
      const headers: Readonly<Record<string, string>> = { authorization: by, host };
      return ui.handler({ method, target, header: (name) => headers[name] }, { signal });
    },
  };
}

const list = "/api/v1/stagesets";
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function body({ body: text }: HttpResponse): unknown {
  return JSON.parse(String(text)) as unknown;
}

function names(response: HttpResponse): readonly string[] {
  return (at(body(response), "items") as readonly unknown[]).map(
    (item) => `${String(at(item, "namespace"))}/${String(at(item, "name"))}`,
  );
}

describe("a list", () => {
  test("is in the order of namespaces and names, each row as the page has it", async () => {
    const { ask } = scene([stageSet("b", "x"), stageSet("a", "z"), stageSet("a", "y")]);
    const response = await ask(list);
    expect(names(response)).toEqual(["a/y", "a/z", "b/x"]);
    expect(body(response)).not.toHaveProperty("pending");
    expect(body(response)).toMatchObject({ items: [{ version: "1.0.0" }, {}, {}] });
  });

  test("of thousands leaves others their turns", async () => {
    const { ask, rows } = scene(Array.from({ length: 2_000 }, (_, index) => stageSet("shop", `s${index}`)));
    let before = 0;
    let most = 0;
    const made = ask(list).finally(() => clearImmediate(counting));
    let counting = setImmediate(count);
    function count(): void {
      most = Math.max(most, rows() - before);
      before = rows();
      counting = setImmediate(count);
    }
    expect(names(await made)).toHaveLength(2_000);
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(100);
  });

  test("is one at a time for a caller, until the client has it or is gone", async () => {
    const { ask } = scene([stageSet("shop", "web")]);
    const request = new AbortController();
    expect((await ask(list, { signal: request.signal })).status).toBe(200);
    const refused = await ask(list);
    expect([refused.status, refused.headers["retry-after"]]).toEqual([429, "1"]);
    expect((await ask(list, { by: "bob" })).status).toBe(200);
    request.abort();
    expect((await ask(list)).status).toBe(200);
  });

  test("has what is known after a while, and says of how many namespaces nothing is", async () => {
    const held = ["a", "b", "c", "d"].map((namespace) => stageSet(namespace, "web"));
    const may = ({ namespace }: WantedAccess): Promise<boolean> => {
      if (namespace === "b") return new Promise(() => undefined);
      return namespace === "c" ? Promise.reject(new Error("late")) : Promise.resolve(namespace === "a");
    };
    const { ask, clock } = scene(held, { may });
    const asked = ask(list);
    for (let count = 0; count < 5; count++) await turn();
    clock.advance(2_500);
    const response = await asked;
    expect(names(response)).toEqual(["a/web"]);
    expect(body(response)).toMatchObject({ pending: 2 });
  });

  test("is 503 when nothing is known", async () => {
    const { ask, clock } = scene([stageSet("a", "web")], { may: () => new Promise(() => undefined) });
    const asked = ask(list);
    await turn();
    clock.advance(2_500);
    expect((await asked).status).toBe(503);
  });
});

describe("one object", () => {
  test("is 503 when the review takes longer than the answer may", async () => {
    const { ask, clock } = scene([stageSet("a", "web")], { may: () => new Promise(() => undefined) });
    const asked = ask(`${list}/a/web`);
    await turn();
    clock.advance(4_000);
    expect((await asked).status).toBe(503);
  });
});

test("HEAD of a stream is refused, and holds no place", async () => {
  const { ask } = scene([]);
  for (let count = 0; count < 20; count++) {
    const { status, headers } = await ask("/api/v1/watch", { method: "HEAD" });
    expect([status, headers["allow"]]).toEqual([405, "GET"]);
  }
  expect((await ask("/api/v1/watch")).status).toBe(200);
});

test("a name that may be anybody's is told how to reach the page otherwise, for files and API alike", async () => {
  const { ask } = scene([], { hosts: isLocalHost });
  for (const path of ["/", list, "/api/v1/watch"]) {
    const response = await ask(path, { host: "rebound.example.com" });
    expect(response.status).toBe(421);
    expect(at(body(response), "error")).toContain("--ui-auth=kubernetes");
    expect((await ask(path, { host: "127.0.0.1:8085" })).status).toBe(200);
  }
});
