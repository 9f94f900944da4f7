import { expect, test } from "vitest";
import type { ComputePool } from "../compute/pool.ts";
import { isGateActive, mayAskRegistry } from "../engine/image-gate.ts";
import type { ResourceCache } from "../kube/cache.ts";
import type { JudgingPolicy } from "../domain/images/governing.ts";
import { KubeError } from "../kube/error.ts";
import { systemClock } from "../lib/clock.ts";
import { silentLogger, type Logger } from "../lib/telemetry.ts";
import { readConfig } from "./config.ts";
import { buildImageGate } from "./image-verification.ts";

const policy: JudgingPolicy = {
  ...{ name: "p", version: "1", images: ["**"], skip: [], authorities: [] },
  broken: undefined,
};

function gateOver(
  cache: Partial<ResourceCache<JudgingPolicy>>,
  args: readonly string[] = [],
  logger: Logger = silentLogger,
): ReturnType<typeof buildImageGate> {
  const read = readConfig(args, {}, "test");
  if (read.kind !== "config") throw new Error(JSON.stringify(read));
  const policies = {
    ...{ synced: true, size: 1, get: () => undefined, entry: () => undefined, list: () => [policy] },
    ...{ health: () => "fresh" as const, problem: () => undefined, whenSynced: () => Promise.resolve() },
    ...{ subscribe: () => ({ [Symbol.dispose]() {} }), [Symbol.asyncDispose]: () => Promise.resolve() },
    ...cache,
  };
  // Nothing is computed or fetched to know the policies.
  const unused = {} as ComputePool;
  const fetch = () => Promise.reject(new Error("nobody asks"));
  return buildImageGate({
    config: read.config,
    caches: { policies },
    clock: systemClock,
    compute: unused,
    fetch,
    logger,
  });
}

const failing = (
  reason: "NotFound" | "NotServed" | "Forbidden" | "Unreachable",
): Partial<ResourceCache<JudgingPolicy>> => {
  const message = 'imageverificationpolicies is forbidden: User "c" cannot list resource "imageverificationpolicies"';
  const status = { kind: "Status", message, reason };
  const error = new KubeError({ reason, message, ...(reason === "Forbidden" ? { status } : {}) });
  return { problem: () => error, health: () => "stale" };
};

test("policies as they were listed", () => {
  const gate = gateOver({});
  expect(gate.policies()).toEqual({ kind: "known", policies: [policy] });
  expect([isGateActive(gate), mayAskRegistry(gate)]).toEqual([true, true]);
});

test("without the kind, and with none seen before, there are none, which is said once", () => {
  const said: string[] = [];
  const missing = { ...failing("NotFound"), list: () => [] };
  const logger: Logger = { ...silentLogger, warn: (line) => void said.push(line), with: () => logger };
  const gate = gateOver(missing, [], logger);
  expect([gate.policies(), gate.policies()]).toEqual(Array(2).fill({ kind: "known", policies: [] }));
  expect(said).toEqual([expect.stringContaining("is not installed")]);
  expect(isGateActive(gate)).toBe(false);
  // What nothing matches is held then, too.
  expect(isGateActive(gateOver(missing, ["--require-image-verification"]))).toBe(true);
});

test.each([
  ["denied", failing("Forbidden"), "denied"],
  ["not listed yet", { synced: false }, "unknown"],
  ["listed before, and not found any more", failing("NotFound"), "unknown"],
  [
    "listed before, and not served any more, the moment it is told",
    { ...failing("NotServed"), health: (): "fresh" => "fresh" },
    "unknown",
  ],
  ["listed before, and the watch is down", failing("Unreachable"), "unknown"],
] as const)("policies that cannot be known hold every image: %s", (_what, cache, kind) => {
  const gate = gateOver(cache);
  expect(gate.policies().kind).toBe(kind);
  expect([isGateActive(gate), mayAskRegistry(gate)]).toEqual([true, false]);
});

test.each([
  [["--enable-webhook=false"], "unchecked"],
  [[], "counts"],
  [["--image-verification-break-glass=any", "--enable-webhook=false"], "counts"],
  [["--image-verification-break-glass=off"], "off"],
] as const)("[50.35] breaking the glass with %j: %s", (args, expected) => {
  expect(gateOver({}, args).breakGlass).toBe(expected);
});
