import { expect, test } from "vitest";
import { createPacer } from "./pacer.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("so many jobs at once, the others turn by turn and in order", async () => {
  const ran: number[] = [];
  const pace = createPacer(3);
  for (let job = 0; job < 8; job++) pace(() => ran.push(job));
  expect(ran).toEqual([0, 1, 2]);
  await turn();
  pace(() => ran.push(8));
  expect(ran).toEqual([0, 1, 2, 3, 4, 5]);
  await turn();
  expect(ran).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  await turn();
  for (let job = 9; job < 12; job++) pace(() => ran.push(job));
  expect(ran).toHaveLength(12);
});

test("a job may hand in the next one", async () => {
  const ran: string[] = [];
  const pace = createPacer(1);
  pace(() => {
    ran.push("a");
    pace(() => ran.push("b"));
  });
  expect(ran).toEqual(["a"]);
  await turn();
  expect(ran).toEqual(["a", "b"]);
});
