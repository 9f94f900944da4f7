import { expect, test } from "vitest";
import { createManualClock } from "../lib/clock.ts";
import type { KubeClient } from "./client.ts";
import type { KubeError } from "./error.ts";
import { createPageFollower } from "./pages.ts";
import { runWatch } from "./watch.ts";

const endless = { metadata: { resourceVersion: "1", continue: "more" }, items: [] };

test("a list is followed to its end, and for 1,000 pages at most", () => {
  const follow = createPageFollower("pods");
  expect(follow({ metadata: { continue: "" } })).toBeUndefined();
  expect(follow({ metadata: {} })).toBeUndefined();
  for (let page = 1; page < 1000; page++) expect(follow(endless)).toBe("more");
  expect(() => follow(endless)).toThrow("Cannot list pods: the list has more than 1000 pages");
});

test("a watch gives an endless list up, and says so", async () => {
  let sent = 0;
  const client: KubeClient = {
    cluster: "c",
    identity: "i",
    send: () => {
      sent++;
      return Promise.resolve(endless);
    },
    stream: () => {
      throw new Error("unused");
    },
  };
  const abort = new AbortController();
  const failures: KubeError[] = [];
  const resource = { group: "", version: "v1", kind: "Pod", plural: "pods", namespaced: true, verbs: [] };
  const options = {
    client,
    resource,
    clock: createManualClock(),
    random: () => 0,
    apply: () => {
      if (sent > 1000) abort.abort(new Error("read on"));
    },
    onFailure: (error: KubeError) => {
      failures.push(error);
      abort.abort(new Error("told"));
    },
  };
  await expect(runWatch(options, { downSince: 0, heardAt: 0 }, abort.signal)).rejects.toThrow("told");
  expect(failures.map(({ message }) => message)).toEqual([`Cannot list "pods": the list has more than 1000 pages`]);
  expect(sent).toBe(1000);
});
