import { describe, expect, test } from "vitest";
import type { KubeClient } from "../kube/client.ts";
import { KubeError } from "../kube/error.ts";
import type { ApiResource } from "../kube/request.ts";
import { createManualClock } from "../lib/clock.ts";
import { createConfirmations } from "./confirmations.ts";

const resource = (group: string, kind: string): ApiResource => ({
  group,
  version: "v1",
  kind,
  plural: `${kind.toLowerCase()}s`,
  namespaced: true,
  verbs: [],
});
const stageSetResource = resource("stages.metio.wtf", "StageSet");
const externalArtifacts = resource("source.toolkit.fluxcd.io", "ExternalArtifact");

/** A StageSet whose stages `s0`, `s1` … are Ready at `r1`, each with a source of its name. */
function stageSet(namespace: string, stages: number) {
  const names = Array.from({ length: stages }, (_, index) => `s${index}`);
  return {
    metadata: { name: "app", namespace, generation: 1 },
    spec: { stages: names.map((name) => ({ name, sourceRef: { name } })) },
    status: {
      observedGeneration: 1,
      stages: names.map((name) => ({ name, phase: "Ready", appliedRevision: "r1" })),
      lastAttemptedRevisions: Object.fromEntries(names.map((name) => [`${namespace}/${name}`, "r1"])),
    },
  };
}

interface Read {
  readonly path: string;
  answer(): void;
  fail(): void;
}

/** Confirmations whose reads wait until the test answers them. */
function scene({ stages = 1 } = {}) {
  const clock = createManualClock();
  const reads: Read[] = [];
  const client: KubeClient = {
    cluster: "hub",
    identity: "controller",
    stream: () => {
      throw new Error("nothing is watched");
    },
    send: (request, options) =>
      new Promise((resolve, reject) => {
        const [, namespace = "", kind, name = ""] = /namespaces\/([^/]+)\/(\w+)\/([^/]+)$/.exec(request.path) ?? [];
        const source = {
          metadata: { name, namespace },
          status: { artifact: { revision: "r1", digest: "sha256:1" } },
        };
        options?.signal?.addEventListener("abort", () => reject(options.signal?.reason as Error));
        reads.push({
          path: `${namespace}/${kind ?? ""}/${name}`,
          answer: () => resolve(kind === "stagesets" ? stageSet(namespace, stages) : source),
          fail: () => reject(new KubeError({ reason: "Unreachable", message: "gone" })),
        });
      }),
  };
  const confirmations = createConfirmations({
    client,
    discovery: {
      find: () => Promise.resolve(externalArtifacts),
      preferredFor: () => Promise.resolve([]),
      all: () => Promise.resolve([]),
      invalidate: () => undefined,
    },
    stageSetResource,
    clock,
  });
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  const ask = (stage = "s0", { namespace = "a", signal = new AbortController().signal } = {}) => {
    const asked = { result: "pending" };
    confirmations.confirm({ namespace, stageSet: "app", stage }, { signal }).then(
      (answer) => (asked.result = answer === "undetermined" ? answer : answer.kind),
      (error: unknown) => (asked.result = String(error)),
    );
    return asked;
  };
  /** Answers everything that is read until nothing more is. */
  const answerAll = async (): Promise<void> => {
    for (await settle(); reads.length > 0; await settle()) for (const read of reads.splice(0)) read.answer();
  };
  return { clock, reads, ask, settle, answerAll };
}

describe("confirmations by live reads", () => {
  test("[40.36] who asks before a read begins shares it; who asks after that waits for the next", async () => {
    const { reads, ask, settle, answerAll } = scene();
    const [first, second] = [ask(), ask()];
    await settle();
    expect(reads.map(({ path }) => path)).toEqual(["a/stagesets/app"]);
    const [late, later] = [ask(), ask()];
    reads.shift()?.answer();
    await settle();
    expect(reads.map(({ path }) => path)).toEqual(["a/externalartifacts/s0"]);
    reads.shift()?.answer();
    await settle();
    expect([first.result, second.result]).toEqual(["ready", "ready"]);
    expect([late.result, later.result]).toEqual(["pending", "pending"]);
    expect(reads.map(({ path }) => path)).toEqual(["a/stagesets/app"]);
    await answerAll();
    expect([late.result, later.result]).toEqual(["ready", "ready"]);
  });

  test("without an answer for 3 s, and when a read fails, it cannot be told", async () => {
    const { clock, reads, ask, settle } = scene();
    const slow = ask();
    await settle();
    clock.advance(3_000);
    await settle();
    expect(slow.result).toBe("undetermined");
    reads.length = 0;
    const failing = ask();
    await settle();
    reads.shift()?.fail();
    await settle();
    expect(failing.result).toBe("undetermined");
  });

  test("those who gave up before their turn cost no read", async () => {
    const { reads, ask, settle, answerAll } = scene();
    const held = ask();
    await settle();
    const gone = new AbortController();
    const asked = ask("s0", { signal: gone.signal });
    gone.abort(new Error("the client is gone"));
    await settle();
    expect(asked.result).toBe("undetermined");
    await answerAll();
    expect(held.result).toBe("ready");
    expect(reads).toEqual([]);
  });

  test("the sources of many stages are read four at a time", async () => {
    const { reads, ask, settle, answerAll } = scene({ stages: 20 });
    const many = Array.from({ length: 20 }, (_, index) => ask(`s${index}`));
    await settle();
    reads.shift()?.answer();
    await settle();
    expect(reads).toHaveLength(4);
    await answerAll();
    expect(many.map(({ result }) => result)).toEqual(Array(20).fill("ready"));
  });
});
