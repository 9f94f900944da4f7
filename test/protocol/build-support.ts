import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { kustomizeWasm } from "../../src/dev/tools.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { createComputePool, type ComputePool } from "../../src/compute/pool.ts";
import { buildStage, type BuildRequest, type Built, type ScopeLookup } from "../../src/build/build-stage.ts";

/** A directory with these files, removed when disposed. */
export async function writeTree(
  files: Readonly<Record<string, string>>,
): Promise<{ readonly root: string } & AsyncDisposable> {
  const root = await mkdtemp(join(tmpdir(), "build-"));
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
  return { root, [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }) };
}

export function startPool(size = 2): ComputePool {
  return createComputePool({
    clock: systemClock,
    workerUrl: new URL("../../src/main/worker.ts", import.meta.url),
    size,
  });
}

const clusterKinds = new Set([
  "/Namespace",
  "rbac.authorization.k8s.io/ClusterRole",
  "apiextensions.k8s.io/CustomResourceDefinition",
]);

/** A cluster that serves a few cluster-scoped kinds; `Unknown` kinds are not served, all others are namespaced. */
export const scopes: ScopeLookup = (kinds) =>
  Promise.resolve(
    new Map(
      kinds.map(({ group, kind }) => {
        const key = `${group}/${kind}`;
        return [key, kind === "Unknown" ? undefined : clusterKinds.has(key) ? "Cluster" : "Namespaced"] as const;
      }),
    ),
  );

export interface BuildFiles extends Partial<Omit<BuildRequest, "root">> {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

/** Builds these files as stage "web" of StageSet "team/shop". */
export async function buildFiles(
  compute: ComputePool,
  files: Readonly<Record<string, string>>,
  { signal = new AbortController().signal, timeoutMs = 60_000, ...request }: BuildFiles = {},
): Promise<Built> {
  await using tree = await writeTree(files);
  const whole: BuildRequest = {
    root: tree.root,
    path: "./",
    patches: [],
    variables: undefined,
    applyHelmHookResources: true,
    defaultNamespace: "team",
    labels: { stage: "web", name: "shop", namespace: "team" },
    ...request,
  };
  return await buildStage(whole, {
    compute,
    scopes,
    signal,
    timeoutMs,
    queue: "team",
    kustomize: () => kustomizeWasm(),
  });
}

/** The objects as plain values. */
export function bodies(built: Built): readonly Record<string, unknown>[] {
  return built.objects.map(
    (object) => JSON.parse(Buffer.from(object.body).toString("utf8")) as Record<string, unknown>,
  );
}
