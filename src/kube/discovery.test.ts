import { expect, test } from "vitest";
import { createManualClock } from "../lib/clock.ts";
import type { KubeClient } from "./client.ts";
import { createDiscovery } from "./discovery.ts";
import { errorOfAnswer } from "./error.ts";

const signal = new AbortController().signal;

function group(name: string, versions: Readonly<Record<string, readonly string[]>>): unknown {
  return {
    metadata: { name },
    versions: Object.entries(versions).map(([version, kinds]) => ({
      version,
      resources: kinds.map((kind) => ({
        resource: `${kind.toLowerCase()}s`,
        responseKind: { group: name, version, kind },
        scope: kind === "Namespace" ? "Cluster" : "Namespaced",
        verbs: ["get", "list"],
      })),
    })),
  };
}

function scripted(answers: Readonly<Record<string, () => unknown>>): {
  readonly client: KubeClient;
  readonly paths: string[];
} {
  const paths: string[] = [];
  return {
    paths,
    client: {
      cluster: "c",
      identity: "i",
      send: (request) => {
        paths.push(request.path);
        const answer = answers[request.path];
        if (answer === undefined) return Promise.reject(errorOfAnswer({ httpStatus: 503, body: "", what: "GET" }));
        return Promise.resolve(answer());
      },
      stream: () => {
        throw new Error("unused");
      },
    },
  };
}

const core = { kind: "APIGroupDiscoveryList", items: [group("", { v1: ["ConfigMap", "Namespace"] })] };

test("the preferred version is the first the server names", async () => {
  const { client, paths } = scripted({
    "/api": () => core,
    "/apis": () => ({
      kind: "APIGroupDiscoveryList",
      items: [group("autoscaling", { v2: ["Scaler"], v1: ["Scaler", "Old"] }), group("other.io", { v1: ["Scaler"] })],
    }),
  });
  const discovery = createDiscovery({ client, clock: createManualClock() });
  expect(await discovery.find({ group: "autoscaling", kind: "Scaler" }, { signal })).toMatchObject({
    version: "v2",
    plural: "scalers",
  });
  expect(await discovery.find({ group: "autoscaling", kind: "Scaler", version: "v1" }, { signal })).toMatchObject({
    version: "v1",
  });
  expect(await discovery.find({ group: "autoscaling", kind: "Old" }, { signal })).toMatchObject({ version: "v1" });
  expect(await discovery.find({ group: "", kind: "Namespace" }, { signal })).toMatchObject({ namespaced: false });
  expect((await discovery.preferredFor("Scaler", { signal })).map((r) => `${r.group}/${r.version}`)).toEqual([
    "autoscaling/v2",
    "other.io/v1",
  ]);
  expect(paths).toEqual(["/api", "/apis"]);
});

test("an unknown kind costs one refresh, and none within a second of the last", async () => {
  const items: unknown[] = [];
  const { client, paths } = scripted({ "/api": () => core, "/apis": () => ({ kind: "APIGroupDiscoveryList", items }) });
  const clock = createManualClock();
  const discovery = createDiscovery({ client, clock });
  const find = () => discovery.find({ group: "new.io", kind: "Thing" }, { signal });
  expect(await find()).toBeUndefined();
  expect(paths).toHaveLength(2);
  clock.advance(1000);
  items.push(group("new.io", { v1: ["Thing"] }));
  const found = await Promise.all([find(), find(), find()]);
  expect(found.map((resource) => resource?.kind)).toEqual(["Thing", "Thing", "Thing"]);
  expect(paths).toHaveLength(4);
});

test("what was known outlives a failed refresh", async () => {
  let up = true;
  const { client } = scripted({
    "/api": () => {
      if (!up) throw errorOfAnswer({ httpStatus: 503, body: "", what: "GET" });
      return core;
    },
    "/apis": () => ({ kind: "APIGroupDiscoveryList", items: [] }),
  });
  const discovery = createDiscovery({ client, clock: createManualClock() });
  await discovery.all(signal);
  up = false;
  discovery.invalidate();
  expect(await discovery.find({ group: "", kind: "ConfigMap" }, { signal })).toMatchObject({ plural: "configmaps" });
});

test("a server without aggregated discovery is read group by group, and one broken group hides only itself", async () => {
  const { client } = scripted({
    "/api": () => ({ kind: "APIVersions", versions: ["v1"] }),
    "/api/v1": () => ({
      kind: "APIResourceList",
      groupVersion: "v1",
      resources: [
        { name: "pods", kind: "Pod", namespaced: true, verbs: ["get"] },
        { name: "pods/log", kind: "Pod", namespaced: true, verbs: ["get"] },
      ],
    }),
    "/apis": () => ({
      kind: "APIGroupList",
      groups: [
        {
          name: "apps",
          versions: [{ version: "v1beta1" }, { version: "v1" }],
          preferredVersion: { version: "v1" },
        },
        { name: "down.io", versions: [{ version: "v1" }], preferredVersion: { version: "v1" } },
      ],
    }),
    "/apis/apps/v1": () => ({
      kind: "APIResourceList",
      groupVersion: "apps/v1",
      resources: [{ name: "deployments", kind: "Deployment", namespaced: true, verbs: [] }],
    }),
    "/apis/apps/v1beta1": () => ({
      kind: "APIResourceList",
      groupVersion: "apps/v1beta1",
      resources: [{ name: "deployments", kind: "Deployment", namespaced: true, verbs: [] }],
    }),
  });
  const discovery = createDiscovery({ client, clock: createManualClock() });
  expect((await discovery.all(signal)).map((r) => `${r.version}/${r.plural}`)).toEqual([
    "v1/pods",
    "v1/deployments",
    "v1beta1/deployments",
  ]);
});

test("one caller that gives up does not stop the others' refresh", async () => {
  const { client } = scripted({ "/api": () => core, "/apis": () => ({ kind: "APIGroupDiscoveryList", items: [] }) });
  const discovery = createDiscovery({ client, clock: createManualClock() });
  const first = new AbortController();
  const cancelled = discovery.all(first.signal);
  const other = discovery.all(signal);
  first.abort(new Error("stop"));
  await expect(cancelled).rejects.toThrow("stop");
  expect(await other).toHaveLength(2);
});

test("a server without aggregated discovery is asked for 8 group versions at once, and for 1,000 at most", async () => {
  const legacy = (count: number) => ({
    kind: "APIGroupList",
    groups: Array.from({ length: count }, (_, index) => ({ name: `g${index}.io`, versions: [{ version: "v1" }] })),
  });
  let count = 1000;
  let inFlight = 0;
  let most = 0;
  let sent = 0;
  const client: KubeClient = {
    ...scripted({}).client,
    send: async ({ path }) => {
      if (path === "/api") return core;
      if (path === "/apis") return legacy(count);
      sent++;
      most = Math.max(most, ++inFlight);
      await Promise.resolve();
      inFlight--;
      const resources = [{ name: "things", kind: "Thing", namespaced: true, verbs: [] }];
      return { kind: "APIResourceList", groupVersion: path.slice("/apis/".length), resources };
    },
  };
  const clock = createManualClock();
  const found = await createDiscovery({ client, clock }).all(signal);
  expect(found.slice(-1000).map(({ group }) => group)).toEqual(legacy(1000).groups.map(({ name }) => name));
  expect({ most, sent }).toEqual({ most: 8, sent: 1000 });
  count = 1001;
  await expect(createDiscovery({ client, clock }).all(signal)).rejects.toThrow("more than 1000 group versions");
  expect(sent).toBe(1000);
});

test.each(["aggregated", "legacy"])("more than 20,000 resources are refused: %s", async (kind) => {
  const kinds = Array.from({ length: 10_001 }, (_, index) => `K${index}`);
  const list = (groupVersion: string) => () => ({
    kind: "APIResourceList",
    groupVersion,
    resources: kinds.map((each) => ({ name: each.toLowerCase(), kind: each, namespaced: true, verbs: [] })),
  });
  const { client } = scripted({
    "/api": () => core,
    "/apis": () =>
      kind === "aggregated"
        ? { kind: "APIGroupDiscoveryList", items: [group("a.io", { v1: kinds, v2: kinds })] }
        : { kind: "APIGroupList", groups: [{ name: "a.io", versions: [{ version: "v1" }, { version: "v2" }] }] },
    "/apis/a.io/v1": list("a.io/v1"),
    "/apis/a.io/v2": list("a.io/v2"),
  });
  const discovery = createDiscovery({ client, clock: createManualClock() });
  await expect(discovery.all(signal)).rejects.toThrow("more than 20000 resources");
});
