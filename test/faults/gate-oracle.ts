import { setTimeout as delay } from "node:timers/promises";
import { at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { stageSetRef, stageStatus } from "../support/controller.ts";
import { follow } from "../support/scene.ts";
import type { TestCluster } from "../support/cluster.ts";
import { stageNames } from "./release.ts";

/** O5 of the fault tests: a stage's gate says 200 only if it was Ready at this generation and revision meanwhile. */
export interface GateOracle extends AsyncDisposable {
  /** From now on the source may offer this revision beside the one before. */
  publishing(revision: string): void;
  /** From now on the source offers nothing else. */
  published(revision: string): void;
  violations(): readonly string[];
}

interface Opened {
  readonly stage: string;
  /** Resource version before the request was sent. */
  readonly since: number;
  readonly until: number;
  /** What the source offered at some time during the request. */
  readonly revisions: ReadonlySet<string>;
}

const pollMs = 200;

export function watchGate(
  cluster: TestCluster,
  options: {
    readonly namespace: string;
    readonly name: string;
    readonly gate: (path: string) => Promise<{ readonly status: number; readonly body: string } | undefined>;
  },
): GateOracle {
  const { namespace, name } = options;
  const history = follow(cluster, { apiVersion: "stages.metio.wtf/v1", kind: "StageSet", namespace, name });
  const opened: Opened[] = [];
  let offered: ReadonlySet<string> = new Set();
  let ended = false;
  const version = async (): Promise<number> => versionOf(await cluster.admin.get(stageSetRef(namespace, name)));
  const poll = async (): Promise<void> => {
    for (let turn = 0; !ended; turn++) {
      await delay(pollMs);
      const stage = stageNames[turn % stageNames.length] ?? "base";
      const before = offered;
      const since = await version();
      const answer = await options.gate(`/gate/${namespace}/${name}/${stage}`);
      if (answer?.status !== 200) continue;
      opened.push({ stage, since, until: await version(), revisions: before.union(offered) });
    }
  };
  const polling = poll().catch(() => undefined); // The control plane went away: nothing is judged.
  return {
    publishing: (revision) => void (offered = offered.union(new Set([revision]))),
    published: (revision) => void (offered = new Set([revision])),
    violations: () => opened.flatMap((each) => judge(each, history.states) ?? []),
    async [Symbol.asyncDispose]() {
      ended = true;
      await polling;
      history[Symbol.dispose]();
    },
  };
}

function judge(opened: Opened, states: readonly KubeObject[]): string | undefined {
  // The state in force when the request was sent, and those that followed until its answer was read.
  const during = states.filter((state, index) => {
    const next = states[index + 1];
    const replaced = next === undefined ? Infinity : versionOf(next);
    return replaced > opened.since && (opened.until === 0 || versionOf(state) <= opened.until);
  });
  if (during.length === 0) return undefined; // The watch has not shown them.
  const isOpen = during.some(
    (state) =>
      at(state, "status", "observedGeneration") === state.metadata.generation &&
      at(stageStatus(state, opened.stage), "phase") === "Ready" &&
      opened.revisions.has(String(at(stageStatus(state, opened.stage), "appliedRevision"))),
  );
  return isOpen
    ? undefined
    : `the gate of "${opened.stage}" was open between versions ${opened.since} and ${opened.until}`;
}

function versionOf(object: KubeObject | undefined): number {
  return Number(object?.metadata.resourceVersion ?? 0);
}
