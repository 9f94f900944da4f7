import { expect, test } from "vitest";
import type { Waiting } from "./state.ts";
import { isUnproductive, standstillMs, standstillOf } from "./unproductive.ts";

const web: Waiting = { kind: "Deployment", namespace: "shop", name: "web", status: "InProgress", message: "1 of 3" };
const stuck = { text: 'container "app" cannot pull image "app:1" (ImagePullBackOff)', isStuck: true };
const slow = { text: "a pod cannot be scheduled", isStuck: false };

test("a wait stands still since what is waited for last said something else", () => {
  const first = standstillOf([web], { before: undefined, elapsed: 10 });
  expect(first.since).toBe(10);
  expect(standstillOf([web], { before: first, elapsed: 20 }).since).toBe(10);
  expect(standstillOf([{ ...web, message: "2 of 3" }], { before: first, elapsed: 20 }).since).toBe(20);
  expect(standstillOf([{ ...web, status: "NotFound" }], { before: first, elapsed: 20 }).since).toBe(20);
  expect(standstillOf([web, { ...web, name: "db" }], { before: first, elapsed: 20 }).since).toBe(20);
});

test("a cause that comes to be known is no progress", () => {
  const first = standstillOf([web], { before: undefined, elapsed: 10 });
  expect(standstillOf([{ ...web, cause: slow }], { before: first, elapsed: 20 }).since).toBe(10);
});

test.each<readonly [string, readonly Waiting[], number, boolean]>([
  ["pods that are stuck", [web, { ...web, name: "db", cause: stuck }], 0, true],
  ["pods time may help", [{ ...web, cause: slow }], standstillMs - 1, false],
  ["nothing is known of pods, a change just now", [web], 0, false],
  ["shortly before two minutes", [web], standstillMs - 1, false],
  ["two minutes without a change", [web], standstillMs, true],
])("%s", (_title, waiting, sinceMs, unproductive) => {
  const standstill = standstillOf(waiting, { before: undefined, elapsed: 1_000 });
  expect(isUnproductive(waiting, standstill, 1_000 + sinceMs)).toBe(unproductive);
});
