import { asArray, asObject, asText, at } from "../../lib/json.ts";

/** Where the pod spec is, per kind that has one, by `<group>/<kind>`. Images of other kinds are not seen (spec 50 §4.2). */
const podSpecPaths: ReadonlyMap<string, readonly string[]> = new Map<string, readonly string[]>([
  ["/Pod", ["spec"]],
  ["/PodTemplate", ["template", "spec"]],
  ["batch/CronJob", ["spec", "jobTemplate", "spec", "template", "spec"]],
  ...[
    "/ReplicationController",
    "apps/Deployment",
    "apps/StatefulSet",
    "apps/DaemonSet",
    "apps/ReplicaSet",
    "batch/Job",
  ].map((kind) => [kind, ["spec", "template", "spec"]] as const),
]);

/** The members of a pod spec that list containers. */
export const containerLists = ["containers", "initContainers", "ephemeralContainers"] as const;

/** Undefined: the kind has no pod spec that is known. */
export function podSpecPath({
  group,
  kind,
}: {
  readonly group: string;
  readonly kind: string;
}): readonly string[] | undefined {
  return podSpecPaths.get(`${group}/${kind}`);
}

/** What pulls the images of one pod spec. */
export interface Puller {
  readonly pullSecrets: readonly string[];
  readonly serviceAccount: string;
}

/** The images of an object, each once, in order: of containers of all kinds, and of volumes. */
export function imagesOf(object: unknown, kind: { readonly group: string; readonly kind: string }): readonly string[] {
  const path = podSpecPath(kind);
  if (path === undefined) return [];
  const spec = at(object, ...path);
  const containers = containerLists.flatMap((list) => asArray(at(spec, list)).map((each) => at(each, "image")));
  const volumes = asArray(at(spec, "volumes")).map((each) => at(each, "image", "reference"));
  const images = [...containers, ...volumes].flatMap((image) => asText(image) ?? []);
  return [...new Set(images)].filter((image) => image !== "");
}

export function pullerOf(object: unknown, kind: { readonly group: string; readonly kind: string }): Puller {
  const spec = at(object, ...(podSpecPath(kind) ?? []));
  const names = asArray(at(spec, "imagePullSecrets")).flatMap((each) => asText(at(each, "name")) ?? []);
  // `serviceAccount` is the older name of the field.
  const account = asText(at(spec, "serviceAccountName")) || asText(at(spec, "serviceAccount")) || "default";
  return { pullSecrets: names.filter((name) => name !== ""), serviceAccount: account };
}

/** The object with its images replaced; what `pinned` does not hold stays. */
export function withImages(
  object: unknown,
  kind: { readonly group: string; readonly kind: string },
  pinned: ReadonlyMap<string, string>,
): unknown {
  const path = podSpecPath(kind);
  return path === undefined ? object : change(object, path, (spec) => withSpecImages(spec, pinned));
}

function withSpecImages(spec: unknown, pinned: ReadonlyMap<string, string>): unknown {
  const replace = (image: unknown): unknown => pinned.get(asText(image) ?? "") ?? image;
  let changed = spec;
  for (const list of containerLists)
    changed = change(changed, [list], (containers) =>
      mapList(containers, (each) => change(each, ["image"], (image) => replace(image))),
    );
  return change(changed, ["volumes"], (volumes) =>
    mapList(volumes, (each) => change(each, ["image", "reference"], (image) => replace(image))),
  );
}

function mapList(value: unknown, to: (each: unknown) => unknown): unknown {
  return Array.isArray(value) ? value.map((each) => to(each)) : value;
}

/** A copy with the member at this path replaced; the value as it is where there is no such member. */
function change(value: unknown, [key, ...rest]: readonly string[], to: (member: unknown) => unknown): unknown {
  if (key === undefined) return to(value);
  const object = asObject(value);
  if (object === undefined || !Object.hasOwn(object, key)) return value;
  // `fromEntries` defines members, so that `__proto__` stays a key like any other.
  return Object.fromEntries(
    Object.entries(object).map(([name, member]) => [name, name === key ? change(member, rest, to) : member]),
  );
}
