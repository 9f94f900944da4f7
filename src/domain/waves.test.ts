import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { applyOrder, planWaves } from "./waves.ts";

interface Item {
  readonly group: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

const item = (kind: string, change: Partial<Item> = {}): Item => ({
  group: "",
  kind,
  namespace: "apps",
  name: "a",
  ...change,
});

/** Spec 20 §6.1, wave by wave; every other kind shares the rank before the webhooks. */
const first = ["CustomResourceDefinition", "Namespace", "ClusterRole"];
const classes = [
  ...["ClusterClass", "RuntimeClass", "PriorityClass", "StorageClass", "VolumeSnapshotClass", "IngressClass"],
  "GatewayClass",
];
const rest = [
  ...["ClusterRoleBinding", "ResourceQuota", "ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Secret", "Service"],
  ...["LimitRange", "Deployment", "StatefulSet", "CronJob", "PodDisruptionBudget"],
];
const last = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

const items = fc.uniqueArray(
  fc.record({
    group: fc.constantFrom("", "apps", "example.com"),
    kind: fc.constantFrom(...first, ...classes, ...rest, ...last, "Widget", "Gadget", "CustomClass"),
    namespace: fc.constantFrom("", "apps", "web"),
    name: fc.constantFrom("a", "b", "c"),
  }),
  { selector: (one) => JSON.stringify(one), maxLength: 60 },
);

describe("planWaves", () => {
  test("ranks every kind as spec 20 §6.1 lists it", () => {
    const others = ["Widget", "CustomResource", "Ingress"];
    const kinds = [...last, ...others, ...rest, ...classes, ...first].reverse();
    const waves = planWaves(kinds.map((kind) => item(kind)));
    expect(waves.map((wave) => wave.map((rank) => rank.map(({ kind }) => kind)))).toEqual([
      first.map((kind) => [kind]),
      classes.map((kind) => [kind]),
      [...rest.map((kind) => [kind]), [...others].sort(), ...last.map((kind) => [kind])],
    ]);
  });

  test.each([
    ["a Namespace of another group is an object like any other", item("Namespace", { group: "example.com" }), 1],
    ["any kind that ends in Class comes before what may use it", item("WorkerClass", { group: "example.com" }), 0],
    ["a kind that merely has Class in its name does not", item("ClassRoom", { group: "example.com" }), 1],
  ] as const)("%s", (_title, odd, wave) => {
    const waves = planWaves([odd, item("PriorityClass"), item("ConfigMap")]);
    expect(waves).toHaveLength(2);
    expect(waves[wave]?.flat()).toContainEqual(odd);
  });

  test("orders a rank by group, kind, namespace and name", () => {
    const ordered = [
      item("Widget", { name: "z" }),
      item("Gadget", { group: "example.com" }),
      item("Widget", { group: "example.com", namespace: "apps", name: "b" }),
      item("Widget", { group: "example.com", namespace: "web", name: "a" }),
    ];
    expect(planWaves([...ordered].reverse())).toEqual([[ordered]]);
  });

  test("nothing gives no wave", () => {
    expect(planWaves([])).toEqual([]);
  });

  test("holds every object once, never an empty wave or rank, whatever the order of the input", () => {
    fc.assert(
      fc.property(items, fc.nat(), (some, seed) => {
        const waves = planWaves(some);
        const sorted = (all: readonly Item[]): readonly string[] => all.map((one) => JSON.stringify(one)).sort();
        expect(sorted(waves.flat(2))).toEqual(sorted(some));
        expect(waves.every((wave) => wave.length > 0 && wave.every((rank) => rank.length > 0))).toBe(true);
        const turned =
          some.length === 0 ? [] : [...some.slice(seed % some.length), ...some.slice(0, seed % some.length)];
        expect(planWaves([...turned].reverse())).toEqual(waves);
      }),
    );
  });

  test("whatever others build on comes in an earlier wave", () => {
    fc.assert(
      fc.property(items, (some) => {
        const waveOf = new Map(
          planWaves(some).flatMap((wave, index) => wave.flat().map((one) => [one, index] as const)),
        );
        const isFirst = ({ group, kind }: Item): boolean =>
          first.includes(kind) && (kind !== "Namespace" || group === "");
        const stage = (one: Item): number => (isFirst(one) ? 0 : one.kind.endsWith("Class") ? 1 : 2);
        for (const one of some)
          for (const other of some)
            if (stage(one) < stage(other)) expect(waveOf.get(one)).toBeLessThan(waveOf.get(other) ?? 0);
      }),
    );
  });
});

describe("applyOrder", () => {
  test("is the order of the waves in one list, and leaves its input alone", () => {
    fc.assert(
      fc.property(items, (some) => {
        const frozen = Object.freeze([...some]);
        expect(applyOrder(frozen)).toEqual(planWaves(some).flat(2));
      }),
    );
  });
});
