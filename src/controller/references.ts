import { asArray, asObject, asText, at } from "../lib/json.ts";
import { splitApiVersion, type KubeObject } from "../lib/kube-object.ts";
import { sourceTarget } from "../domain/pins.ts";
import type { KindName } from "./source-watches.ts";

/** What one StageSet refers to, as names to look it up by. */
interface References {
  readonly sources: readonly string[];
  readonly producers: readonly KindName[];
  readonly dependencies: readonly string[];
}

/** Which StageSets an event concerns: an index over what their specs refer to, kept from the watch. */
export interface ReferenceIndex {
  set(key: string, stageSet: KubeObject): void;
  remove(key: string): void;
  /** StageSets that refer to a Flux source, directly or as the producer an artifact points back to. */
  ofSource(source: KubeObject): ReadonlySet<string>;
  ofProducer(kind: KindName, namespace: string, name: string): ReadonlySet<string>;
  ofDependency(key: string): ReadonlySet<string>;
  producerKinds(): readonly KindName[];
}

const none: ReadonlySet<string> = new Set();

export function createReferenceIndex(): ReferenceIndex {
  const byKey = new Map<string, References>();
  const users = new Map<string, Set<string>>();
  const names = ({ sources, dependencies }: References): readonly string[] => [
    ...sources,
    ...dependencies.map((dependency) => `StageSet ${dependency}`),
  ];
  const remove = (key: string): void => {
    const before = byKey.get(key);
    if (before === undefined) return;
    byKey.delete(key);
    for (const name of names(before)) {
      const found = users.get(name);
      found?.delete(key);
      if (found?.size === 0) users.delete(name);
    }
  };
  const lookup = (...wanted: readonly string[]): ReadonlySet<string> => {
    const found = wanted.map((name) => users.get(name) ?? none).filter((set) => set.size > 0);
    return found.length === 0 ? none : new Set(found.flatMap((set) => [...set]));
  };
  return {
    set(key, stageSet) {
      remove(key);
      const references = readReferences(stageSet);
      byKey.set(key, references);
      for (const name of names(references)) users.set(name, (users.get(name) ?? new Set()).add(key));
    },
    remove,
    ofSource(source) {
      const namespace = source.metadata.namespace ?? "";
      const direct = `source ${source.kind} ${namespace}/${source.metadata.name}`;
      const ref = asObject(at(source, "spec", "sourceRef"));
      if (source.kind !== "ExternalArtifact" || ref === undefined) return lookup(direct);
      const { group } = splitApiVersion(asText(ref["apiVersion"]) ?? "");
      return lookup(
        direct,
        producerName({ group, kind: asText(ref["kind"]) ?? "" }, namespace, asText(ref["name"]) ?? ""),
      );
    },
    ofProducer: (kind, namespace, name) => lookup(producerName(kind, namespace, name)),
    ofDependency: (key) => lookup(`StageSet ${key}`),
    producerKinds() {
      const kinds = new Map<string, KindName>();
      for (const { producers } of byKey.values())
        for (const kind of producers) kinds.set(`${kind.group}/${kind.kind}`, kind);
      return [...kinds.values()];
    },
  };
}

function producerName(kind: KindName, namespace: string, name: string): string {
  return `producer ${kind.group}/${kind.kind} ${namespace}/${name}`;
}

/** Reads leniently: a spec that is invalid elsewhere still refers to its sources. */
function readReferences(stageSet: KubeObject): References {
  const own = stageSet.metadata.namespace ?? "";
  const sources: string[] = [];
  const producers: KindName[] = [];
  const users = [...asArray(at(stageSet, "spec", "stages")), at(stageSet, "spec", "migrationsSourceRef")];
  for (const user of users) {
    const ref = asObject(at(user, "sourceRef"));
    const name = asText(ref?.["name"]);
    if (ref === undefined || name === undefined) continue;
    const apiVersion = asText(ref["apiVersion"]);
    const kind = asText(ref["kind"]);
    const namespace = asText(ref["namespace"]);
    const target = sourceTarget(
      {
        name,
        ...(apiVersion === undefined ? {} : { apiVersion }),
        ...(kind === undefined ? {} : { kind }),
        ...(namespace === undefined ? {} : { namespace }),
      },
      own,
    );
    if (!("mode" in target)) continue;
    if (target.mode === "direct") sources.push(`source ${target.kind} ${target.namespace}/${target.name}`);
    else {
      producers.push({ group: target.group, kind: target.kind });
      sources.push(producerName(target, target.namespace, target.name));
    }
  }
  const dependencies = asArray(at(stageSet, "spec", "dependsOn")).flatMap((dependency) => {
    const name = asText(at(dependency, "name"));
    return name === undefined ? [] : [`${asText(at(dependency, "namespace")) ?? own}/${name}`];
  });
  return { sources, producers, dependencies };
}
