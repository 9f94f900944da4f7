import { expect, test } from "vitest";
import { afterCorrection, type Fight } from "./fight.ts";

const minute = 60_000;

test.each([
  { times: [0, 1, 2, 3, 4], contested: false },
  { times: [0, 1, 2, 3, 4, 5], contested: true },
  { times: [0, 1, 2, 3, 4, 11], contested: false },
  { times: [0, 3, 6, 9, 12, 15, 18], contested: false },
])("corrections at minutes $times against one manager: contested $contested", ({ times, contested }) => {
  let fight: Fight | undefined;
  for (const time of times) fight = afterCorrection(fight, { rival: "hpa", now: time * minute });
  expect(fight?.contested).toBe(contested);
});

test("corrections against different managers are no fight, and a fight goes on until it is over", () => {
  let fight: Fight | undefined;
  for (let index = 0; index < 20; index++)
    fight = afterCorrection(fight, { rival: index % 2 === 0 ? "one" : "other", now: index });
  expect(fight?.contested).toBe(false);
  for (let index = 0; index < 6; index++) fight = afterCorrection(fight, { rival: "one", now: index });
  expect(afterCorrection(fight, { rival: "one", now: 60 * minute }).contested).toBe(true);
});
