import type { TestCluster } from "../support/cluster.ts";
import { startFaultProxy, type FaultProxy } from "../support/fault-proxy.ts";
import { seededRandom, type AnswerFault } from "./plan.ts";
import { diceOf } from "./random-release.ts";
import { answerFault } from "./run-plan.ts";

/** Faults that a request may meet without its caller having to wait for long. */
const mishaps: readonly AnswerFault[] = [
  ...(["drop", "swallow", "truncate", "slow"] as const),
  ...(["429", "500", "503", "504", "500.committed", "504.committed"] as const),
];
const interruptions = ["double", "replay", "swap", "cut", "gone"] as const;

/** An API server that fails now and then: for `share` of the requests, and of the watch events. */
export async function startFlakyServer(
  cluster: TestCluster,
  { share, seed }: { readonly share: number; readonly seed: number },
): Promise<FaultProxy> {
  const proxy = await startFaultProxy(cluster);
  const dice = diceOf(seededRandom(seed));
  proxy.onCall = (call) => (!call.isWatch && dice.chance(share) ? answerFault(dice.pick(mishaps)) : undefined);
  proxy.onEvent = () => (dice.chance(share) ? dice.pick(interruptions) : undefined);
  return proxy;
}
