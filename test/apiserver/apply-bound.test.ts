import { expect, test } from "vitest";
import { applyArtifact } from "../../src/actions/apply.ts";
import type { Attempt } from "../../src/actions/context.ts";
import { draftManifest } from "../../src/build/draft.ts";
import { finishDrafts } from "../../src/build/finish-drafts.ts";
import { readManifests } from "../../src/build/read-manifests.ts";
import { createAccessProvider } from "../../src/identity/access.ts";
import { tokenCredential } from "../../src/kube/credential.ts";
import { createTransports } from "../../src/kube/transport.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { testCluster, uniqueNamespace } from "../support/cluster.ts";
import { createJumpingClock } from "../support/jumping-clock.ts";

const cluster = testCluster();
const { admin } = cluster;
const kind = { apiVersion: "v1", kind: "ConfigMap" } as const;

test("an object that is not gone, to be created anew, ends an apply without a timeout after five minutes, and says what holds it", async () => {
  const namespace = await uniqueNamespace(cluster);
  const metadata = { namespace, name: "held" };
  await admin.create({
    ...kind,
    immutable: true,
    metadata: { ...metadata, finalizers: ["example.com/hold"] },
    data: { k: "old" },
  });
  const manifest = JSON.stringify({
    ...kind,
    immutable: true,
    metadata: { name: "held", annotations: { "stages.metio.wtf/force": "enabled" } },
    data: { k: "new" },
  });
  const clock = createJumpingClock();
  const { signal } = new AbortController();
  await using transports = createTransports({ clock: systemClock });
  await using provider = createAccessProvider({
    endpoint: { key: "local", server: cluster.server, caPem: cluster.caPem },
    credential: tokenCredential(cluster.adminToken),
    transports,
    clock: systemClock,
  });
  const causes: string[] = [];
  const attempt: Attempt = {
    context: {
      owner: { namespace, name: "owner", uid: "uid" },
      run: { list: "pre:only", action: "bring", ledgerKey: "r1", tokens: [], after: "" },
      build: async ({ labels }) => {
        const drafts = readManifests(Buffer.from(manifest), '"a.json"', "kustomize").map((each) =>
          draftManifest(each, labels),
        );
        const scopes = new Map([["/ConfigMap", "Namespaced" as const]]);
        return { objects: await finishDrafts(drafts, { scopes, defaultNamespace: namespace, signal }), digest: "d" };
      },
      random: () => 0.5,
      namespace,
      access: () => Promise.resolve(provider.controller),
      homeAccess: () => Promise.resolve(provider.controller),
      isRemote: false,
      judgesImages: () => false,
      judgePatch: () => Promise.resolve(),
      mayWrite: () => true,
      fetch: () => Promise.reject(new Error("an apply fetches nothing")),
      isAllowedHost: undefined,
      evaluate: () => Promise.reject(new Error("an apply evaluates nothing")),
      clock,
      signal,
    },
    access: provider.controller,
    signal,
    bounded: false,
    deleting: { uid: undefined },
    waitsFor: (cause) => {
      causes.push(cause);
      clock.jump(causes.length === 1 ? 4 * 60_000 : 2 * 60_000);
    },
  };
  await expect(applyArtifact({ sourceRef: { name: "any" } }, attempt)).rejects.toThrow(
    /^timed out after 5 minutes: waiting until .*held.* \(held by finalizers example\.com\/hold\) is gone/,
  );
  expect(causes).toHaveLength(2);
  await admin.patch({ ...kind, metadata }, { metadata: { finalizers: null } });
});
