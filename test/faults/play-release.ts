import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import { stageLabel } from "../../src/api/keys.ts";
import { deepEqual } from "../../src/lib/equal.ts";
import { asArray, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { publishArtifact, type ArtifactServer } from "../support/artifacts.ts";
import { eventually, type TestCluster } from "../support/cluster.ts";
import { createStageSet, messageOf, readyOf, stageSetRef } from "../support/controller.ts";
import { requestPass, shardsOf } from "../support/passes.ts";
import { seededRandom } from "./plan.ts";
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

const timeoutMs = 60_000;
/**
 * The garbage collector takes the records. It looks for new kinds every 30 s alone, and not at ours as long as that fails:
 * a release that ends soon after the definitions were installed has to wait for it.
 */
export const collectionTimeoutMs = 240_000;
const kinds = [
  { apiVersion: "v1", kind: "ConfigMap" },
  { apiVersion: "v1", kind: "Secret" },
  { apiVersion: "rbac.authorization.k8s.io/v1", kind: "Role" },
] as const;

/** Where releases are played: their namespace has the ServiceAccounts "deployer" and "other", and a controller. */
export interface PlayScene {
  readonly cluster: TestCluster;
  readonly namespace: string;
  readonly server: ArtifactServer;
}

/** What was done to releases. */
export interface Counts {
  edits: number;
  hurried: number;
  suspended: number;
  refused: number;
  foreign: number;
}

export function noCounts(): Counts {
  return { edits: 0, hurried: 0, suspended: 0, refused: 0, foreign: 0 };
}

export function addCounts(total: Counts, counts: Counts): void {
  for (const key of Object.keys(total) as (keyof Counts)[]) total[key] += counts[key];
}

/** One StageSet from its first release to its teardown, edited at random. */
export class Play {
  readonly counts = noCounts();
  /** What was done, with the seconds since the start. */
  readonly log: string[] = [];
  readonly #started = performance.now();
  readonly #scene: PlayScene;
  readonly #name: string;
  readonly #model: Model;
  readonly #dice;
  #desired: Desired;
  /** The artifact of each source. */
  #artifacts: string[] = [];
  #generation = 0;

  constructor(scene: PlayScene, { name, seed }: { readonly name: string; readonly seed: number }) {
    this.#scene = scene;
    this.#name = name;
    this.#model = new Model({ namespace: scene.namespace, release: name });
    this.#dice = diceOf(seededRandom(seed));
    this.#desired = firstDesired(this.#dice);
  }

  /**
   * `patient`: each edit waits for the one before, so that the same ones always render the same.
   *
   * @throws what is not as it must be
   */
  async run({ edits, patient = false }: { readonly edits: number; readonly patient?: boolean }): Promise<void> {
    await this.#publishAnew();
    await createStageSet(this.#scene.cluster, { ...this.#target, spec: this.#spec() });
    this.#model.ask(this.#desired);
    await this.#settled();
    for (let count = 0; count < edits; count++) {
      const edit = nextEdit(this.#desired, this.#dice);
      await this.#edit(patient && edit.timing === "hurried" ? { ...edit, timing: "alone" } : edit);
    }
    // What was left broken or in a hurry is put right, then nothing is written any more.
    await this.#edit({ ...mend(this.#desired), timing: "alone", foreign: undefined });
    const before = await this.#versions();
    await requestPass(this.#scene.cluster, this.#target, { timeoutMs });
    expect(await this.#versions(), "a pass with nothing to do writes nothing").toEqual(before);
    this.#note("delete");
    await this.#admin.delete(this.#ref);
    await eventually(async () => (await this.#admin.get(this.#ref)) === undefined, { timeoutMs });
    await eventually(async () => (await shardsOf(this.#scene.cluster, this.#target)).length === 0, {
      timeoutMs: collectionTimeoutMs,
    });
    expect(this.#model.problemsAfterTeardown(await this.#world())).toEqual([]);
    // What was to stay would be nobody's for a later release of the same name.
    await Promise.all((await this.#own()).map((object) => this.#admin.delete(object)));
  }

  #note(what: string): void {
    this.log.push(`${((performance.now() - this.#started) / 1_000).toFixed(1)} s ${what}`);
  }

  get #admin() {
    return this.#scene.cluster.admin;
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
    this.#note(`${timing}: ${edit.what.join(", ")}`);
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
        await this.#admin.patch(this.#ref, { spec: this.#spec() });
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
    await this.#admin.patch(this.#ref, { spec: { suspend: true } });
    await this.#verdict(/Suspended$/);
    const before = await this.#world();
    await this.#publishAnew();
    await this.#admin.patch(this.#ref, { spec: { ...this.#spec(), suspend: true } });
    await this.#verdict(/Suspended$/);
    expect(await this.#world(), "suspended").toEqual(before);
    this.#model.ask(this.#desired);
    await this.#admin.patch(this.#ref, { spec: { suspend: false } });
  }

  async #foreignEdit(how: NonNullable<Edit["foreign"]>): Promise<void> {
    const ours = [...renderedBy(this.#desired)].filter(([, object]) => object.control !== "keep");
    if (ours.length === 0) return;
    const [name, { kind }] = this.#dice.pick(ours);
    this.counts.foreign++;
    this.#note(`somebody: ${how} ${name}`);
    const apiVersion = kinds.find((each) => each.kind === kind)?.apiVersion ?? "v1";
    const metadata = { name: `${this.#name}-${name}`, namespace: this.#scene.namespace };
    const ref = { apiVersion, kind, metadata };
    if (how === "delete") {
      await this.#admin.delete(ref);
      this.#model.lost(name);
    } else if (how === "strip") {
      await this.#admin.patch(ref, { metadata: { labels: null } });
      this.#model.disowned(name);
    } else await this.#admin.patch(ref, { metadata: { annotations: { [versionAnnotation]: "foreign" } } });
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
    await publishArtifact(this.#scene.cluster, { server, namespace, name: this.#artifacts[source] ?? "", files });
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
        const stageSet = await this.#admin.get(this.#ref);
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
        const stageSet = await this.#admin.get(this.#ref);
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
    for (const shard of await shardsOf(this.#scene.cluster, this.#target)) {
      const stage = shard.metadata.labels?.[stageLabel] ?? "";
      const ids = asArray(at(shard, "spec", "entries")).map((entry) => asText(at(entry, "id")) ?? "");
      inventory.set(stage, [...(inventory.get(stage) ?? []), ...ids]);
    }
    return { objects, inventory };
  }

  /** Whoever they say they belong to. */
  async #own(): Promise<readonly KubeObject[]> {
    const { namespace } = this.#scene;
    const lists = await Promise.all(kinds.map((kind) => this.#admin.list({ ...kind, namespace })));
    return lists.flat().filter((object) => object.metadata.name.startsWith(`${this.#name}-`));
  }

  async #versions(): Promise<readonly string[]> {
    const shards = await shardsOf(this.#scene.cluster, this.#target);
    return [...(await this.#own()), ...shards].map(
      ({ metadata }) => `${metadata.name} ${metadata.resourceVersion ?? ""}`,
    );
  }
}
