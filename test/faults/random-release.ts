import { stringify } from "yaml";
import { nameLabel, namespaceLabel, stageLabel } from "../../src/api/keys.ts";
import { renderObjectId } from "../../src/domain/object-id.ts";

/**
 * `never`: `prune: disabled`. `keep`: `keep-existing: "true"`. `force`: an immutable ConfigMap with `force: enabled`, which
 * every change makes anew.
 */
export type Control = "none" | "never" | "keep" | "force";

export interface ModelObject {
  readonly kind: "ConfigMap" | "Secret" | "Role";
  readonly version: number;
  readonly control: Control;
}

export interface ModelStage {
  readonly name: string;
  readonly folder: string;
  /** Index of the artifact that has the folder. */
  readonly source: number;
  readonly prune: boolean;
  readonly account: string | undefined;
}

/** What is asked for: stages in order, and objects by name in each folder. */
export interface Desired {
  readonly stages: readonly ModelStage[];
  readonly folders: Readonly<Record<string, Readonly<Record<string, ModelObject>>>>;
  /** A folder with an object the API server refuses. */
  readonly broken: string | undefined;
}

/** How an edit comes: `alone`, before the one before it has settled, or while the StageSet is suspended. */
export type Timing = "alone" | "hurried" | "suspended";

export interface Edit {
  readonly what: readonly string[];
  readonly desired: Desired;
  readonly timing: Timing;
  /** What somebody else does to a live object once the edit has settled. */
  readonly foreign: "delete" | "change" | "strip" | undefined;
}

export const sources = 2;
export const versionAnnotation = "example.com/version";
const stageNames = ["s1", "s2", "s3", "s4", "s5"];
const objectNames = ["o1", "o2", "o3", "o4", "o5", "o6", "o7", "o8"];

/** The names are those of {@link Desired}; kinds do not change with versions. */
function kindOf(name: string): ModelObject["kind"] {
  return name <= "o5" ? "ConfigMap" : name === "o6" ? "Role" : "Secret";
}

/** What is immutable once stays so, whatever comes between. */
function isImmutable(name: string): boolean {
  return name === "o4" || name === "o5";
}

/** Chance as edits use it. */
export interface Dice {
  upTo(most: number): number;
  pick<T>(from: readonly T[]): T;
  chance(share: number): boolean;
}

export function diceOf(random: () => number): Dice {
  return {
    upTo: (most) => Math.floor(random() * most),
    pick: (from) => {
      const picked = from[Math.floor(random() * from.length)];
      if (picked === undefined) throw new RangeError("nothing to pick from");
      return picked;
    },
    chance: (share) => random() < share,
  };
}

export function firstDesired(dice: Dice): Desired {
  const empty: Desired = {
    stages: [stageOf("s1", "f1"), stageOf("s2", "f2")],
    folders: { f1: {}, f2: {} },
    broken: undefined,
  };
  return ["o1", "o2", "o4", "o6"].reduce((desired, name) => place(desired, dice, name), empty);
}

function stageOf(name: string, folder: string): ModelStage {
  return { name, folder, source: 0, prune: true, account: undefined };
}

/** What is broken or claimed twice is put right. */
export function mend(before: Desired): Pick<Edit, "what" | "desired"> {
  const names = claimedTwice(before);
  const what = names.map((name) => `claim ${name} once`);
  if (before.broken !== undefined) what.push(`mend ${before.broken}`);
  const mended = names.reduce(
    (desired, name) => withoutObject(desired, name, foldersOf(desired, name).slice(1)),
    before,
  );
  return { what, desired: { ...mended, broken: undefined } };
}

/** One to three changes in one go; what the edit before did wrong is mended. */
export function nextEdit(before: Desired, dice: Dice): Edit {
  const mended = mend(before);
  const what = [...mended.what];
  let { desired } = mended;
  for (let count = 1 + dice.upTo(3); count > 0; count--) {
    const change = dice.pick(changes);
    const done = change(desired, dice);
    if (done === undefined) continue;
    desired = done.desired;
    what.push(done.what);
  }
  const timing = dice.chance(0.3) ? "hurried" : dice.chance(0.1) ? "suspended" : "alone";
  return { what, desired, timing, foreign: dice.chance(0.3) ? dice.pick(["delete", "change", "strip"]) : undefined };
}

type Change = (desired: Desired, dice: Dice) => { readonly desired: Desired; readonly what: string } | undefined;

const changeObject: Change = (desired, dice) => {
  const found = pickObject(desired, dice);
  if (found === undefined) return undefined;
  const { folder, name, object } = found;
  const changed = { ...object, version: object.version + 1 };
  return { desired: withObject(desired, folder, name, changed), what: `change ${name} in ${folder}` };
};

const addObject: Change = (desired, dice) => {
  const free = objectNames.filter((name) => foldersOf(desired, name).length === 0);
  if (free.length === 0) return undefined;
  const name = dice.pick(free);
  const next = place(desired, dice, name);
  return { desired: next, what: `add ${name} to ${foldersOf(next, name).join()}` };
};

const dropObject: Change = (desired, dice) => {
  const found = pickObject(desired, dice);
  if (found === undefined) return undefined;
  const { folder, name } = found;
  return { desired: withoutObject(desired, name, [folder]), what: `drop ${name} from ${folder}` };
};

const moveObject: Change = (desired, dice) => {
  const found = pickObject(desired, dice);
  if (found === undefined) return undefined;
  const { folder, name, object } = found;
  const to = dice.pick(Object.keys(desired.folders));
  const moved = withObject(withoutObject(desired, name, [folder]), to, name, object);
  return { desired: moved, what: `move ${name} from ${folder} to ${to}` };
};

const controlObject: Change = (desired, dice) => {
  const found = pickObject(desired, dice);
  if (found === undefined || found.object.control === "force") return undefined;
  const { folder, name, object } = found;
  const control = dice.pick(["none", "never", "keep"] as const);
  const changed = { ...object, control, version: object.version + 1 };
  return { desired: withObject(desired, folder, name, changed), what: `${name} is now ${control}` };
};

const claimTwice: Change = (desired, dice) => {
  const found = pickObject(desired, dice);
  const others = desired.stages.filter((stage) => stage.folder !== found?.folder);
  if (found === undefined || others.length === 0) return undefined;
  const { folder } = dice.pick(others);
  return {
    desired: withObject(desired, folder, found.name, found.object),
    what: `claim ${found.name} in ${folder} as well`,
  };
};

const breakStage: Change = (desired, dice) => {
  const { folder } = dice.pick(desired.stages);
  return { desired: { ...desired, broken: folder }, what: `break ${folder}` };
};

const addStage: Change = (desired, dice) => {
  const free = stageNames.filter((name) => desired.stages.every((stage) => stage.name !== name));
  if (free.length < 2) return undefined;
  const name = dice.pick(free);
  const unused = Object.keys(desired.folders).filter((each) => desired.stages.every((stage) => stage.folder !== each));
  const folder = unused.length > 0 && dice.chance(0.5) ? dice.pick(unused) : `f${folderCount(desired) + 1}`;
  const stages = desired.stages.toSpliced(dice.upTo(desired.stages.length + 1), 0, stageOf(name, folder));
  const folders = { ...desired.folders, [folder]: desired.folders[folder] ?? {} };
  return { desired: { ...desired, stages, folders }, what: `add stage ${name} of ${folder}` };
};

/** Its folder stays, and may come back as another stage's. */
const removeStage: Change = (desired, dice) => {
  if (desired.stages.length < 2) return undefined;
  const stage = dice.pick(desired.stages);
  const stages = desired.stages.filter((each) => each !== stage);
  return { desired: { ...desired, stages }, what: `remove stage ${stage.name}` };
};

const renameStage: Change = (desired, dice) => {
  const stage = dice.pick(desired.stages);
  const other = dice.pick(stageNames);
  // A name that is taken is swapped.
  const stages = desired.stages.map((each) =>
    each === stage ? { ...each, name: other } : each.name === other ? { ...each, name: stage.name } : each,
  );
  return { desired: { ...desired, stages }, what: `rename stage ${stage.name} to ${other}` };
};

const moveStage: Change = (desired, dice) => {
  const stage = dice.pick(desired.stages);
  const rest = desired.stages.filter((each) => each !== stage);
  const to = dice.upTo(rest.length + 1);
  return { desired: { ...desired, stages: rest.toSpliced(to, 0, stage) }, what: `stage ${stage.name} comes at ${to}` };
};

const setStage: Change = (desired, dice) => {
  const stage = dice.pick(desired.stages);
  const changed = dice.pick<ModelStage>([
    { ...stage, prune: !stage.prune },
    { ...stage, source: (stage.source + 1) % sources },
    { ...stage, account: stage.account === undefined ? "other" : undefined },
  ]);
  const stages = desired.stages.map((each) => (each === stage ? changed : each));
  return { desired: { ...desired, stages }, what: `stage ${stage.name} is ${JSON.stringify(changed)}` };
};

/** As often as they are listed. */
const changes: readonly Change[] = [
  ...[changeObject, changeObject, addObject, addObject, dropObject, dropObject, moveObject, moveObject, moveObject],
  ...[controlObject, claimTwice, breakStage],
  ...[addStage, removeStage, renameStage, renameStage, moveStage, setStage],
];

function folderCount(desired: Desired): number {
  return Object.keys(desired.folders).length;
}

function pickObject(desired: Desired, dice: Dice) {
  const all = Object.entries(desired.folders).flatMap(([folder, objects]) =>
    Object.entries(objects).map(([name, object]) => ({ folder, name, object })),
  );
  return all.length === 0 ? undefined : dice.pick(all);
}

function place(desired: Desired, dice: Dice, name: string): Desired {
  const control = isImmutable(name) ? "force" : dice.chance(0.2) ? "never" : "none";
  const object = { kind: kindOf(name), version: 1 + dice.upTo(3), control } as const;
  return withObject(desired, dice.pick(Object.keys(desired.folders)), name, object);
}

function withObject(desired: Desired, folder: string, name: string, object: ModelObject): Desired {
  return { ...desired, folders: { ...desired.folders, [folder]: { ...desired.folders[folder], [name]: object } } };
}

function withoutObject(desired: Desired, name: string, folders: readonly string[]): Desired {
  const left = Object.entries(desired.folders).map(([folder, objects]) => {
    const { [name]: _dropped, ...rest } = objects;
    return [folder, folders.includes(folder) ? rest : objects] as const;
  });
  return { ...desired, folders: Object.fromEntries(left) };
}

function foldersOf(desired: Desired, name: string): readonly string[] {
  return Object.entries(desired.folders).flatMap(([folder, objects]) => (name in objects ? [folder] : []));
}

/** What one object is rendered as, and by which stage. */
export interface Rendered extends ModelObject {
  readonly stage: string;
}

/** By object name; of an object claimed twice the last claim. */
export function renderedBy(desired: Desired): ReadonlyMap<string, Rendered> {
  return new Map(
    desired.stages.flatMap(({ name: stage, folder }) =>
      Object.entries(desired.folders[folder] ?? {}).map(([name, object]) => [name, { ...object, stage }] as const),
    ),
  );
}

export function claimedTwice(desired: Desired): readonly string[] {
  const claims = desired.stages.flatMap(({ folder }) => Object.keys(desired.folders[folder] ?? {}));
  return [...new Set(claims.filter((name, index) => claims.indexOf(name) !== index))];
}

/** What the StageSet is to say about it. */
export function verdictOf(desired: Desired): "True Succeeded" | "False StageFailed" | "False InvalidSpec" {
  if (claimedTwice(desired).length > 0) return "False InvalidSpec";
  const broken = desired.stages.some((stage) => stage.folder === desired.broken);
  return broken ? "False StageFailed" : "True Succeeded";
}

/** Which release: object names of several in one namespace begin with theirs. */
export interface Place {
  readonly namespace: string;
  readonly release: string;
}

/** The files of one source: one for each object. */
export function filesOf(desired: Desired, source: number, { release }: Place): Readonly<Record<string, string>> {
  const files: Record<string, string> = { "README.md": "An artifact is never empty" };
  for (const stage of desired.stages) {
    if (stage.source !== source) continue;
    const { folder } = stage;
    const objects = Object.entries(desired.folders[folder] ?? {});
    for (const [name, object] of objects)
      files[`${folder}/${name}.yaml`] = stringify(manifestOf(`${release}-${name}`, object));
    if (objects.length === 0) files[`${folder}/none.yaml`] = "[]\n";
    if (desired.broken === folder)
      files[`${folder}/broken.yaml`] = stringify({
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: `${release}-broken` },
        spec: { ports: [{ port: 99_999 }] },
      });
  }
  return files;
}

function manifestOf(name: string, { kind, version, control }: ModelObject): Readonly<Record<string, unknown>> {
  const controls: Readonly<Record<Control, Readonly<Record<string, string>>>> = {
    none: {},
    never: { "stages.metio.wtf/prune": "disabled" },
    keep: { "stages.metio.wtf/keep-existing": "true" },
    force: { "stages.metio.wtf/force": "enabled" },
  };
  const metadata = { name, annotations: { [versionAnnotation]: String(version), ...controls[control] } };
  const v = String(version);
  switch (kind) {
    case "ConfigMap":
      return { apiVersion: "v1", kind, metadata, data: { v }, ...(control === "force" ? { immutable: true } : {}) };
    case "Secret":
      return { apiVersion: "v1", kind, metadata, stringData: { v } };
    case "Role":
      return { apiVersion: "rbac.authorization.k8s.io/v1", kind, metadata, rules: [] };
  }
}

export function specOf(desired: Desired, artifactOf: (source: number) => string): Readonly<Record<string, unknown>> {
  return {
    interval: "2s",
    retryInterval: "1s",
    serviceAccountName: "deployer",
    suspend: false,
    stages: desired.stages.map((stage) => ({
      name: stage.name,
      path: stage.folder,
      sourceRef: { name: artifactOf(stage.source) },
      ...(stage.prune ? {} : { prune: false }),
      ...(stage.account === undefined ? {} : { serviceAccountName: stage.account }),
    })),
  };
}

export function idOf(name: string, { namespace, release }: Place): string {
  const kind = kindOf(name);
  const group = kind === "Role" ? "rbac.authorization.k8s.io" : "";
  return renderObjectId({ namespace, name: `${release}-${name}`, group, kind });
}

/** What is known of a live object; `undefined` members are not known. */
interface Live {
  readonly version: number | undefined;
  /** It bears `prune: disabled`. */
  readonly never: boolean | undefined;
  readonly stage: string | undefined;
  readonly uid: string | undefined;
}

/** An object as it is found. */
export interface Found {
  readonly uid: string;
  readonly version: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface World {
  /** By name as in {@link Desired}. */
  readonly objects: ReadonlyMap<string, Found>;
  /** Recorded ids by stage. */
  readonly inventory: ReadonlyMap<string, readonly string[]>;
}

/**
 * What the cluster is to look like after any sequence of edits. Between two settled states what was asked for in
 * between may have been released in part, so of what only that speaks of, less is known.
 */
export class Model {
  readonly #place: Place;
  #settled: Desired = { stages: [], folders: {}, broken: undefined };
  /** Asked for since. */
  #asked: Desired[] = [];
  /** What was live when it settled, rendered or not. */
  #live = new Map<string, Live>();
  /** May be there or not, and stays so until it is rendered. */
  #unsure = new Set<string>();

  constructor(place: Place) {
    this.#place = place;
  }

  ask(desired: Desired): void {
    this.#asked.push(desired);
  }

  /** Somebody else deleted it. */
  lost(name: string): void {
    this.#live.delete(name);
  }

  /** Somebody else took our labels off it: until they are back it is not ours to delete. */
  disowned(name: string): void {
    const known = this.#live.get(name);
    if (known !== undefined) this.#live.set(name, { ...known, never: undefined });
  }

  /** What is not as it must be once everything that was asked for is released; empty: all is well. */
  problems(world: World): readonly string[] {
    const { namespace, release } = this.#place;
    const last = this.#asked.at(-1) ?? this.#settled;
    const rendered = renderedBy(last);
    const problems: string[] = [];
    for (const [name, object] of rendered) {
      const found = world.objects.get(name);
      if (found === undefined) {
        problems.push(`${name} is missing`);
        continue;
      }
      const expected = this.#expected(name, object);
      if (expected.version !== undefined && found.version !== String(expected.version))
        problems.push(`${name} is of version ${found.version} instead of ${expected.version}`);
      if (expected.uid !== undefined && found.uid !== expected.uid) problems.push(`${name} was made anew`);
      if (expected.stage === undefined) continue;
      const labels = { [nameLabel]: release, [namespaceLabel]: namespace, [stageLabel]: expected.stage };
      for (const [label, value] of Object.entries(labels))
        if (found.labels[label] !== value)
          problems.push(`${name} has ${label} "${found.labels[label] ?? ""}", not "${value}"`);
    }
    for (const name of objectNames) {
      if (rendered.has(name)) continue;
      const fate = this.#fate(name);
      if (fate === "kept" && !world.objects.has(name)) problems.push(`${name} is gone`);
      if (fate === "gone" && world.objects.has(name)) problems.push(`${name} is orphaned`);
    }
    problems.push(...this.#inventoryProblems(world, last, rendered));
    return problems;
  }

  /** While what was asked for cannot be released as a whole, nothing that was is deleted. */
  problemsWhileRefused(world: World): readonly string[] {
    if (this.#asked.length > 1) return [];
    return [...renderedBy(this.#settled).keys()]
      .filter((name) => this.#live.has(name) && !world.objects.has(name))
      .map((name) => `${name} was deleted although the release was refused`);
  }

  /** What must be left when the StageSet is gone. */
  problemsAfterTeardown(world: World): readonly string[] {
    const rendered = renderedBy(this.#settled);
    const keeping = new Set(this.#settled.stages.filter((stage) => !stage.prune).map((stage) => stage.name));
    return objectNames.flatMap((name) => {
      const live = this.#live.get(name);
      if (this.#unsure.has(name) || (live !== undefined && live.never === undefined)) return [];
      const stage = rendered.get(name)?.stage;
      const stays = live !== undefined && (stage === undefined || live.never === true || keeping.has(stage));
      if (stays === world.objects.has(name)) return [];
      return [stays ? `${name} is gone` : `${name} is left`];
    });
  }

  /** Everything that was asked for is released; `world` is how it turned out. */
  settle(world: World): void {
    const last = this.#asked.at(-1) ?? this.#settled;
    const rendered = renderedBy(last);
    const live = new Map<string, Live>();
    const unsure = new Set<string>();
    for (const name of objectNames) {
      const object = rendered.get(name);
      const found = world.objects.get(name);
      if (object !== undefined && found !== undefined)
        live.set(name, { ...this.#expected(name, object), uid: found.uid });
      if (object !== undefined) continue;
      const fate = this.#fate(name);
      if (fate === "unsure") unsure.add(name);
      const known = this.#live.get(name);
      if (fate === "kept" && known !== undefined) live.set(name, known);
    }
    this.#settled = last;
    this.#asked = [];
    this.#live = live;
    this.#unsure = unsure;
  }

  /** Of an object the last state renders. */
  #expected(name: string, object: Rendered): Live {
    const known = this.#live.get(name);
    const before = this.#asked.slice(0, -1).map((each) => renderedBy(each).get(name));
    const always = renderedBy(this.#settled).has(name) && before.every((each) => each !== undefined);
    const anew = [object, ...before].some((each) => each?.control === "force") || claimedAmong(this.#asked, name);
    const uid = always && !anew && !this.#unsure.has(name) ? known?.uid : undefined;
    if (object.control !== "keep")
      return { version: object.version, never: object.control === "never", stage: object.stage, uid };
    const unknown = { version: undefined, never: undefined, stage: undefined, uid };
    if (before.length > 0 || this.#unsure.has(name)) return unknown;
    return known ?? { version: object.version, never: false, stage: object.stage, uid };
  }

  /** Of an object nothing renders any more. */
  #fate(name: string): "gone" | "kept" | "unsure" {
    const known = this.#live.get(name);
    const settled = renderedBy(this.#settled).get(name);
    const between = this.#asked.slice(0, -1).flatMap((each) => renderedBy(each).get(name) ?? []);
    if (between.length === 0 && settled === undefined)
      return this.#unsure.has(name) ? "unsure" : known === undefined ? "gone" : "kept";
    const last = this.#asked.at(-1) ?? this.#settled;
    const isKeeping = (desired: Desired, stage: string | undefined): boolean =>
      desired.stages.some((each) => each.name === stage && !each.prune);
    if (this.#asked.length <= 1) {
      if (isKeeping(last, settled?.stage)) return known === undefined ? "unsure" : "kept";
      return known?.never === undefined ? "unsure" : known.never ? "kept" : "gone";
    }
    const everKeeping = this.#asked.some((each) => each.stages.some((stage) => !stage.prune));
    const controls = between.map((each) => each.control);
    const plain = controls.every((control) => control === "none" || control === "force");
    const wasPlain = known === undefined ? settled === undefined && !this.#unsure.has(name) : known.never === false;
    if (plain && wasPlain && !everKeeping) return "gone";
    if (known?.never === true && controls.every((control) => control === "never")) return "kept";
    return "unsure";
  }

  #inventoryProblems(world: World, last: Desired, rendered: ReadonlyMap<string, Rendered>): readonly string[] {
    const wanted = new Map<string, string[]>(last.stages.map((stage) => [stage.name, []]));
    for (const [name, { stage }] of rendered) wanted.get(stage)?.push(idOf(name, this.#place));
    return [...new Set([...wanted.keys(), ...world.inventory.keys()])].flatMap((stage) => {
      const is = [...(world.inventory.get(stage) ?? [])].sort().join(" ");
      const should = (wanted.get(stage) ?? []).sort().join(" ");
      return is === should ? [] : [`the inventory of ${stage} is [${is}] instead of [${should}]`];
    });
  }
}

function claimedAmong(asked: readonly Desired[], name: string): boolean {
  return asked.some((desired) => claimedTwice(desired).includes(name));
}
