import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stageLabel } from "../../src/api/keys.ts";
import { deepEqual } from "../../src/lib/equal.ts";
import { asArray, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { publishArtifact, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { createStageSet, messageOf, readyOf, stageSetRef, startTestController } from "../support/controller.ts";
import { requestPass, shardsOf } from "../support/passes.ts";
import { startFaultProxy, type FaultProxy } from "../support/fault-proxy.ts";
import { seededRandom, type AnswerFault } from "./plan.ts";
import { answerFault } from "./run-plan.ts";
import {
  diceOf,
  filesOf,
  firstDesired,
  mend,
  Model,
  nextEdit,
  renderedBy,
  sources,
  specOf,
  verdictOf,
  versionAnnotation,
  type Desired,
  type Edit,
  type Found,
  type World,
} from "./random-release.ts";

const cluster = testCluster();
const { admin } = cluster;

// Set by scripts/test-faults.ts.
const releases = Number(process.env["STAGESET_FAULT_RELEASES"] ?? 8);
const edits = Number(process.env["STAGESET_FAULT_EDITS"] ?? 6);
const seed = Number(process.env["STAGESET_FAULT_SEED"] ?? 1);
const atOnce = 8;
const timeoutMs = 60_000;
const kinds = [
  { apiVersion: "v1", kind: "ConfigMap" },
  { apiVersion: "v1", kind: "Secret" },
  { apiVersion: "rbac.authorization.k8s.io/v1", kind: "Role" },
] as const;

interface Scene extends AsyncDisposable {
  readonly namespace: string;
  readonly server: ArtifactServer;
  readonly logs: readonly string[];
}

interface Weather {
  /** The controller is replaced by a new one, which knows nothing, that often; undefined: never. */
  readonly livesMs: number | undefined;
  /** The share of requests, and of watch events, that something happens to. */
  readonly faults: number;
}

/** Faults that a request may meet without its caller having to wait for long. */
const mishaps: readonly AnswerFault[] = [
  ...(["drop", "swallow", "truncate", "slow"] as const),
  ...(["429", "500", "503", "504", "500.committed", "504.committed"] as const),
];
const interruptions = ["double", "replay", "swap", "cut", "gone"] as const;

/** An API server that fails now and then. */
async function startFlakyServer(share: number): Promise<FaultProxy> {
  const proxy = await startFaultProxy(cluster);
  const dice = diceOf(seededRandom(seed));
  proxy.onCall = (call) => (!call.isWatch && dice.chance(share) ? answerFault(dice.pick(mishaps)) : undefined);
  proxy.onEvent = () => (dice.chance(share) ? dice.pick(interruptions) : undefined);
  return proxy;
}

async function startScene({ livesMs, faults }: Weather): Promise<Scene> {
  const namespace = await uniqueNamespace(cluster);
  for (const name of ["deployer", "other"]) await createServiceAccount(cluster, { namespace, name, rules: allRules });
  const server = await startArtifactServer();
  const proxy = faults === 0 ? undefined : await startFlakyServer(faults);
  const address = proxy === undefined ? {} : { server: proxy.server };
  const start = () => startTestController(cluster, { namespaces: [namespace], ...address });
  let controller = await start();
  const logs: string[] = [];
  const abort = new AbortController();
  const replacing = (async () => {
    while (livesMs !== undefined) {
      await delay(livesMs, undefined, { signal: abort.signal });
      await controller[Symbol.asyncDispose]();
      logs.push(...controller.logs);
      controller = await start();
    }
  })().catch((error: unknown) => {
    if (!abort.signal.aborted) throw error;
  });
  return {
    namespace,
    server,
    get logs() {
      return [...logs, ...controller.logs];
    },
    async [Symbol.asyncDispose]() {
      abort.abort();
      await replacing;
      await controller[Symbol.asyncDispose]();
      await proxy?.[Symbol.asyncDispose]();
      await server.stop();
    },
  };
}

interface Counts {
  edits: number;
  hurried: number;
  suspended: number;
  refused: number;
  foreign: number;
}

/** One StageSet from its first release to its teardown, edited at random. */
class Play {
  readonly counts: Counts = { edits: 0, hurried: 0, suspended: 0, refused: 0, foreign: 0 };
  readonly log: string[] = [];
  readonly #scene: Scene;
  readonly #name: string;
  readonly #model: Model;
  readonly #dice;
  #desired: Desired;
  /** The artifact of each source. */
  #artifacts: string[] = [];
  #generation = 0;

  constructor(scene: Scene, name: string, playSeed: number) {
    this.#scene = scene;
    this.#name = name;
    this.#model = new Model({ namespace: scene.namespace, release: name });
    this.#dice = diceOf(seededRandom(playSeed));
    this.#desired = firstDesired(this.#dice);
  }

  async run(): Promise<void> {
    await this.#publishAnew();
    await createStageSet(cluster, { ...this.#target, spec: this.#spec() });
    this.#model.ask(this.#desired);
    await this.#settled();
    for (let count = 0; count < edits; count++) await this.#edit(nextEdit(this.#desired, this.#dice));
    // What was left broken or in a hurry is put right, then nothing is written any more.
    await this.#edit({ ...mend(this.#desired), timing: "alone", foreign: undefined });
    const before = await this.#versions();
    await requestPass(cluster, this.#target, { timeoutMs });
    expect(await this.#versions(), "a pass with nothing to do writes nothing").toEqual(before);
    this.log.push("delete");
    await admin.delete(this.#ref);
    await eventually(async () => (await admin.get(this.#ref)) === undefined, { timeoutMs });
    // The garbage collector takes the records.
    await eventually(async () => (await shardsOf(cluster, this.#target)).length === 0, { timeoutMs });
    expect(this.#model.problemsAfterTeardown(await this.#world())).toEqual([]);
  }

  get #target() {
    return { namespace: this.#scene.namespace, name: this.#name };
  }

  get #ref() {
    return stageSetRef(this.#scene.namespace, this.#name);
  }

  async #edit(edit: Edit): Promise<void> {
    const { desired, timing } = edit;
    this.counts.edits++;
    this.log.push(`${timing}: ${edit.what.join(", ")}`);
    const before = this.#desired;
    this.#desired = desired;
    if (timing === "suspended") {
      await this.#suspended();
    } else {
      const changed = this.#changedSources(before);
      const sameSpec = deepEqual(before.stages, desired.stages);
      this.#model.ask(desired);
      if (sameSpec && changed.length === 1) await Promise.all(changed.map((source) => this.#publish(source)));
      else if (!sameSpec || changed.length > 1) {
        await this.#publishAnew();
        await admin.patch(this.#ref, { spec: this.#spec() });
      }
    }
    if (timing === "hurried") {
      this.counts.hurried++;
      await delay(this.#dice.upTo(400));
      return;
    }
    await this.#settled();
    if (edit.foreign !== undefined && verdictOf(desired) === "True Succeeded") await this.#foreignEdit(edit.foreign);
  }

  /** Nothing is released, nor undone, before it goes on. */
  async #suspended(): Promise<void> {
    this.counts.suspended++;
    await admin.patch(this.#ref, { spec: { suspend: true } });
    await this.#verdict(/Suspended$/);
    const before = await this.#world();
    await this.#publishAnew();
    await admin.patch(this.#ref, { spec: { ...this.#spec(), suspend: true } });
    await this.#verdict(/Suspended$/);
    expect(await this.#world(), "suspended").toEqual(before);
    this.#model.ask(this.#desired);
    await admin.patch(this.#ref, { spec: { suspend: false } });
  }

  async #foreignEdit(how: NonNullable<Edit["foreign"]>): Promise<void> {
    const ours = [...renderedBy(this.#desired)].filter(([, object]) => object.control !== "keep");
    if (ours.length === 0) return;
    const [name, { kind }] = this.#dice.pick(ours);
    this.counts.foreign++;
    this.log.push(`somebody: ${how} ${name}`);
    const apiVersion = kinds.find((each) => each.kind === kind)?.apiVersion ?? "v1";
    const metadata = { name: `${this.#name}-${name}`, namespace: this.#scene.namespace };
    const ref = { apiVersion, kind, metadata };
    if (how === "delete") {
      await admin.delete(ref);
      this.#model.lost(name);
    } else if (how === "strip") {
      await admin.patch(ref, { metadata: { labels: null } });
      this.#model.disowned(name);
    } else await admin.patch(ref, { metadata: { annotations: { [versionAnnotation]: "foreign" } } });
    if (this.#dice.chance(0.7)) await this.#settled();
  }

  #changedSources(before: Desired): readonly number[] {
    const place = { namespace: this.#scene.namespace, release: this.#name };
    return Array.from({ length: sources }, (_, source) => source).filter(
      (source) => !deepEqual(filesOf(before, source, place), filesOf(this.#desired, source, place)),
    );
  }

  async #publish(source: number): Promise<void> {
    const { namespace, server } = this.#scene;
    const files = filesOf(this.#desired, source, { namespace, release: this.#name });
    await publishArtifact(cluster, { server, namespace, name: this.#artifacts[source] ?? "", files });
  }

  /** As artifacts of new names, so that the spec can go over to all of them in one write. */
  async #publishAnew(): Promise<void> {
    this.#generation++;
    this.#artifacts = Array.from({ length: sources }, (_, source) => `${this.#name}-${this.#generation}-${source}`);
    for (let source = 0; source < sources; source++) await this.#publish(source);
  }

  #spec(): Readonly<Record<string, unknown>> {
    return specOf(this.#desired, (source) => this.#artifacts[source] ?? "");
  }

  async #verdict(wanted: RegExp): Promise<void> {
    await eventually(
      async () => {
        const stageSet = await admin.get(this.#ref);
        expect(readyOf(stageSet), messageOf(stageSet)).toMatch(wanted);
        expect(at(stageSet, "status", "observedGeneration")).toBe(stageSet?.metadata.generation);
        return true;
      },
      { timeoutMs, intervalMs: 100 },
    );
  }

  /** Waits until the StageSet says what it must, and the cluster looks as it must. */
  async #settled(): Promise<void> {
    const verdict = verdictOf(this.#desired);
    if (verdict !== "True Succeeded") {
      this.counts.refused++;
      await this.#verdict(new RegExp(`^${verdict}$`));
      expect(this.#model.problemsWhileRefused(await this.#world())).toEqual([]);
      return;
    }
    let world: World | undefined;
    await eventually(
      async () => {
        const stageSet = await admin.get(this.#ref);
        expect(readyOf(stageSet), messageOf(stageSet)).toBe(verdict);
        expect(at(stageSet, "status", "observedGeneration")).toBe(stageSet?.metadata.generation);
        world = await this.#world();
        expect(this.#model.problems(world)).toEqual([]);
        return true;
      },
      { timeoutMs, intervalMs: 150 },
    );
    if (world !== undefined) this.#model.settle(world);
  }

  async #world(): Promise<World> {
    const objects = new Map<string, Found>();
    for (const object of await this.#own()) {
      const { uid = "", labels = {}, annotations = {}, name } = object.metadata;
      const version = annotations[versionAnnotation] ?? "";
      objects.set(name.slice(this.#name.length + 1), { uid, labels, version });
    }
    const inventory = new Map<string, string[]>();
    for (const shard of await shardsOf(cluster, this.#target)) {
      const stage = shard.metadata.labels?.[stageLabel] ?? "";
      const ids = asArray(at(shard, "spec", "entries")).map((entry) => asText(at(entry, "id")) ?? "");
      inventory.set(stage, [...(inventory.get(stage) ?? []), ...ids]);
    }
    return { objects, inventory };
  }

  /** Whoever they say they belong to. */
  async #own(): Promise<readonly KubeObject[]> {
    const { namespace } = this.#scene;
    const lists = await Promise.all(kinds.map((kind) => admin.list({ ...kind, namespace })));
    return lists.flat().filter((object) => object.metadata.name.startsWith(`${this.#name}-`));
  }

  async #versions(): Promise<readonly string[]> {
    const shards = await shardsOf(cluster, this.#target);
    return [...(await this.#own()), ...shards].map(
      ({ metadata }) => `${metadata.name} ${metadata.resourceVersion ?? ""}`,
    );
  }
}

describe.each<readonly [string, Weather]>([
  ["by one controller", { livesMs: undefined, faults: 0 }],
  [
    "by controllers of which each lives for 4 s, through an API server that fails now and then",
    { livesMs: 4_000, faults: 0.02 },
  ],
])("any sequence of edits, released %s", (_how, weather) => {
  let scene: Scene;
  beforeAll(async () => {
    scene = await startScene(weather);
  });
  afterAll(() => scene[Symbol.asyncDispose]());

  test(
    "ends as its last state says: objects, owners and records, nothing orphaned, nothing made anew",
    async () => {
      const failures: string[] = [];
      const total: Counts = { edits: 0, hurried: 0, suspended: 0, refused: 0, foreign: 0 };
      const queue = Array.from({ length: releases }, (_, index) => seed + index);
      const worker = async (): Promise<void> => {
        for (let own = queue.shift(); own !== undefined; own = queue.shift()) {
          const play = new Play(scene, `r${own}`, own);
          await play.run().catch((error: unknown) => {
            const replay = `npm run test:faults -- --releases 1 --edits ${edits} --seed ${String(own)}`;
            failures.push(`seed ${String(own)} (${replay}):\n${play.log.join("\n")}\n${String(error)}`);
          });
          for (const key of Object.keys(total) as (keyof Counts)[]) total[key] += play.counts[key];
        }
      };
      await Promise.all(Array.from({ length: atOnce }, worker));
      console.log(
        `${releases} releases from seed ${seed}: ${total.edits} edits, of which ${total.hurried} did not wait for the ` +
          `one before, ${total.suspended} came while suspended and ${total.refused} were refused; ` +
          `${total.foreign} edits by others; ${failures.length} violations`,
      );
      expect(failures.join("\n\n")).toBe("");
      const bugs = scene.logs.filter((line) => /unexpected reason|unhandled|does not end|refused to/.test(line));
      expect(bugs).toEqual([]);
    },
    releases * 60_000 + 60_000,
  );
});
