import { unmetDependency, type DependencyView } from "../../domain/dependencies.ts";
import type { Fact } from "../../domain/pass/state.ts";
import type { Pass } from "../pass.ts";
import type { Engine } from "../engine.ts";

/** StageSets looked at for one check: a longer chain is not searched further for a cycle. */
const mostVisited = 1_000;

/** Reads every StageSet reachable over `dependsOn`, then lets the core judge. */
export async function readDependencies(engine: Engine, pass: Pass, signal: AbortSignal): Promise<Fact> {
  const { spec } = pass.snapshot;
  if (spec === undefined) return { kind: "dependencies", unmet: undefined };
  const { namespace, name } = pass.key;
  const views = new Map<string, DependencyView | undefined>();
  let frontier = (spec.dependsOn ?? []).map((each) => ({ namespace: each.namespace || namespace, name: each.name }));
  while (frontier.length > 0 && views.size < mostVisited) {
    const fresh = frontier.filter((each) => !views.has(`${each.namespace}/${each.name}`));
    const read = await Promise.all(
      fresh.map(async (each) => ({ each, view: await engine.dependency(each, { signal }) })),
    );
    for (const { each, view } of read) views.set(`${each.namespace}/${each.name}`, view);
    frontier = read.flatMap(({ view }) => view?.dependsOn ?? []);
  }
  const unmet = unmetDependency(spec, {
    namespace,
    name,
    lookup: (otherNamespace, otherName) => views.get(`${otherNamespace}/${otherName}`),
    crossNamespace: engine.options.crossNamespace,
  });
  return { kind: "dependencies", unmet };
}
