import { expect, test } from "vitest";
import type { JudgingPolicy } from "../domain/images/governing.ts";
import type { ImageVerifier } from "../images/image-verifier.ts";
import { abortReason } from "../lib/abort-reason.ts";
import { systemClock, type Clock } from "../lib/clock.ts";
import { passGate, type GateVerdict } from "./image-gate.ts";

const policy: JudgingPolicy = {
  ...{ name: "p", version: "1", images: ["**"], skip: [], authorities: [] },
  broken: undefined,
};
const digest = `sha256:${"a".repeat(64)}`;
const { signal: never } = new AbortController();

function gateOf(
  verify: ImageVerifier["verify"],
  images: readonly string[],
  o: { readonly clock?: Clock; readonly signal?: AbortSignal } = {},
): Promise<GateVerdict> {
  return passGate(
    {
      clock: o.clock ?? systemClock,
      policies: () => ({ kind: "known", policies: [policy] }),
      verifier: { verify },
      ...{ unmatched: "allowed", breakGlass: "counts" },
      ownCredential: () => Promise.resolve(undefined),
    },
    {
      images,
      ...{ objects: [], pinned: new Map(), accessKey: "", annotations: {}, queue: "shop" },
      access: () => Promise.reject(new Error("nobody asks")),
    },
    o.signal ?? never,
  );
}

const images = (count: number): readonly string[] =>
  Array.from({ length: count }, (_, index) => `app-${String(index)}`);

test("the first image that does not pass ends the search", async () => {
  let asked = 0;
  const verdict = await gateOf(() => {
    asked += 1;
    return Promise.resolve(asked === 2 ? { kind: "refused", why: "unsigned" } : { kind: "accepted", digest });
  }, images(100));
  expect(verdict).toMatchObject({ kind: "refused", why: expect.stringContaining("unsigned") as string });
  expect(asked).toBeLessThanOrEqual(8);
});

test("more images than can be pinned are refused before anybody is asked", async () => {
  const accepting: ImageVerifier["verify"] = () => Promise.resolve({ kind: "accepted", digest });
  expect(await gateOf(accepting, images(256))).toMatchObject({ kind: "passed" });
  const verdict = await gateOf(() => Promise.reject(new Error("nobody asks")), images(257));
  expect(verdict).toMatchObject({ kind: "refused", why: expect.stringContaining("256 can be verified") as string });
});

test("the whole has an end, and cannot tell then; who stops it is told apart", async () => {
  const waiting: ImageVerifier["verify"] = (_request, signal) =>
    new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(abortReason(signal))));
  const over: Clock = {
    ...systemClock,
    timer: (delayMs, run) => (expect(delayMs).toBe(120_000), systemClock.timer(0, run)),
  };
  expect(await gateOf(waiting, images(3), { clock: over })).toMatchObject({ kind: "unknown" });
  const stop = new AbortController();
  const stopped = gateOf(waiting, images(3), { signal: stop.signal });
  stop.abort(new Error("the controller ends"));
  await expect(stopped).rejects.toThrow("the controller ends");
});
