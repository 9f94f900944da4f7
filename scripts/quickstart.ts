/**
 * The main job on an embedded control plane: ships examples/quickstart in three stages, shows each becoming Ready and the
 * gate opening, then rolls a second revision through. Ends clean; `--keep` leaves everything up until interrupted.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { ApiTarget } from "../src/dev/api-call.ts";
import { startControlPlane } from "../src/dev/control-plane.ts";
import { installCrds } from "../src/dev/crds.ts";
import { readFolder, startPublisher, type Publisher } from "../src/dev/publisher.ts";
import { sleep, systemClock } from "../src/lib/clock.ts";
import { applyFile, follow, progress, say, startExampleController } from "./example/release.ts";

const root = fileURLToPath(new URL("../", import.meta.url));
const example = join(root, "examples", "quickstart");
const stages = ["config", "app", "after"];
const keep = process.argv.includes("--keep");

const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.on(signal, () => {
    if (!interrupted.signal.aborted) say("\nStopping everything, which takes some seconds");
    interrupted.abort(new Error(`stopped by ${signal}`));
  });

process.exitCode = await main().catch((error: unknown) => {
  if (interrupted.signal.aborted) return 130;
  process.stderr.write(`quickstart: ${error instanceof Error ? error.message : String(error)}\n`);
  return 1;
});

async function main(): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "stageset-quickstart-"));
  stack.defer(() => rm(dir, { recursive: true, force: true, maxRetries: 5 }));
  say("Starting a Kubernetes control plane on this machine (the first time its programs are built, for some minutes)");
  const plane = stack.use(
    await startControlPlane({ dir, kwok: true, onProgress: progress, signal: interrupted.signal }),
  );
  const api: ApiTarget = { server: plane.server, caPem: plane.caPem, token: plane.adminToken };
  await installCrds(api, ["stageset", "flux"], { onProgress: progress, signal: interrupted.signal });
  say(`The API server is ready; the definitions of StageSet and of Flux's sources are installed`);

  const { signal } = interrupted;
  const controller = stack.use(await startExampleController({ dir, kubeconfigPath: plane.kubeconfigPath, signal }));
  say("The controller runs");
  await applyFile(api, join(example, "namespace.yaml"));
  const publisher = stack.use(await startPublisher(api));
  await publish(publisher, 1);
  await applyFile(api, join(example, "stage-set.yaml"));
  say("Published revision 1 of three artifacts and created StageSet shop/shop\n");

  const gate = `${controller.gateUrl}/gate/shop/shop/after`;
  const release = { stageSet: "shop", stages, gate, signal };
  await follow(api, { ...release, revision: "v1" });
  say("\nEvery stage is Ready. Publishing revision 2 of all three artifacts\n");
  await publish(publisher, 2);
  await follow(api, { ...release, revision: "v2" });
  say("\nRevision 2 is rolled out, stage by stage.\n");
  showNext(plane.kubeconfigPath, gate);
  if (!keep) return 0;
  say("\nLeft running; press Ctrl-C to stop everything.");
  await sleep(systemClock, 24 * 3_600_000, interrupted.signal).catch(() => undefined);
  return 0;
}

async function publish(publisher: Publisher, revision: number): Promise<void> {
  for (const stage of stages)
    await publisher.publish({
      namespace: "shop",
      name: `shop-${stage}`,
      revision: `v${revision}`,
      files: await readFolder(join(example, String(revision), stage)),
    });
}

function showNext(kubeconfig: string, gate: string): void {
  say("Try next:");
  if (keep) {
    say(`  export KUBECONFIG=${kubeconfig}`);
    say("  kubectl -n shop get stagesets,deployments,coupons");
    say("  kubectl -n shop scale deployment web --replicas=5   # undone at the next look");
    say(`  curl -i ${gate}`);
  } else {
    say("  npm run quickstart -- --keep     the same, left running for kubectl and curl");
    say("  examples/quickstart              the manifests you have just seen rolled out");
    say("  README.md                        where to read on");
  }
}
