/**
 * A release that goes both ways at once, with the real Argo Rollouts and a real Prometheus on an embedded control plane:
 * stage 1 ships configuration and a CRD, stage 2 a Rollout whose canary asks the gauge about stage 1, stage 3 waits for
 * the Rollout. Ends clean; `--keep` leaves everything up until interrupted.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type ApiTarget, callApi } from "../src/dev/api-call.ts";
import { startControlPlane } from "../src/dev/control-plane.ts";
import { installCrds } from "../src/dev/crds.ts";
import { startPrometheus, startRolloutsController } from "../src/dev/delivery-programs.ts";
import { readFolder, startPublisher, type ArtifactFiles } from "../src/dev/publisher.ts";
import { sleep, systemClock } from "../src/lib/clock.ts";
import { asArray, asText, at } from "../src/lib/json.ts";
import { applyFile, follow, progress, say, startExampleController } from "./example/release.ts";

const example = fileURLToPath(new URL("../examples/progressive-delivery/", import.meta.url));
const stages = ["config", "app", "after"];
const keep = process.argv.includes("--keep");
const argo = "/apis/argoproj.io/v1alpha1/namespaces/shop";

const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.on(signal, () => {
    if (!interrupted.signal.aborted) say("\nStopping everything, which takes some seconds");
    interrupted.abort(new Error(`stopped by ${signal}`));
  });

process.exitCode = await main().catch((error: unknown) => {
  if (interrupted.signal.aborted) return 130;
  process.stderr.write(`progressive-delivery: ${error instanceof Error ? error.message : String(error)}\n`);
  return 1;
});

async function main(): Promise<number> {
  const { signal } = interrupted;
  const options = { onProgress: progress, signal };
  await using stack = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "stageset-progressive-delivery-"));
  stack.defer(() => rm(dir, { recursive: true, force: true, maxRetries: 5 }));
  say("Starting a Kubernetes control plane on this machine (the first time its programs are built, for some minutes)");
  const plane = stack.use(await startControlPlane({ dir, kwok: true, ...options }));
  const api: ApiTarget = { server: plane.server, caPem: plane.caPem, token: plane.adminToken };
  await installCrds(api, ["stageset", "flux", "rollouts"], options);
  const { kubeconfigPath } = plane;
  const controller = stack.use(await startExampleController({ dir, kubeconfigPath, signal }));
  const prometheus = stack.use(await startPrometheus({ targets: [controller.metricsTarget], ...options }));
  await applyFile(api, join(example, "namespace.yaml"));
  stack.use(await startRolloutsController({ kubeconfigPath, namespace: "shop", ...options }));
  say("Our controller, Argo Rollouts and Prometheus run\n");

  const publisher = stack.use(await startPublisher(api));
  const publish = async (revision: number): Promise<void> =>
    publisher.publish({
      namespace: "shop",
      name: "shop",
      revision: `v${revision}`,
      files: atLoopback(await readFolder(join(example, String(revision))), prometheus.url),
    });
  await publish(1);
  await applyFile(api, join(example, "stage-set.yaml"));
  const gate = `${controller.gateUrl}/gate/shop/shop/after`;
  const release = { stageSet: "shop", stages, gate, signal, also: () => describeRollout(api) };
  await follow(api, { ...release, revision: "v1" });
  say("\nEvery stage is Ready; a first Rollout has no canary. Publishing revision 2\n");
  await publish(2);
  await follow(api, { ...release, revision: "v2" });
  say(`\nThe canary went on because stage "config" was Ready, stage "after" came because the Rollout was Healthy.`);
  if (!keep) return 0;
  say(`\nLeft running; press Ctrl-C to stop everything.\n  export KUBECONFIG=${kubeconfigPath}\n  curl -i ${gate}`);
  say(`  ${prometheus.url}   # stageset_stage_ready`);
  await sleep(systemClock, 24 * 3_600_000, signal).catch(() => undefined);
  return 0;
}

/** The manifests with the Prometheus of this machine in place of the cluster's. */
function atLoopback(files: ArtifactFiles, prometheusUrl: string): ArtifactFiles {
  return Object.fromEntries(
    Object.entries(files).map(([name, body]) => [
      name,
      body.toString().replaceAll("http://prometheus.monitoring:9090", prometheusUrl),
    ]),
  );
}

/** The Rollout's phase and step, and its newest analysis. */
async function describeRollout(api: ApiTarget): Promise<readonly string[]> {
  const { body: rollout } = await callApi(api, "GET", `${argo}/rollouts/cart`);
  const phase = asText(at(rollout, "status", "phase"));
  if (phase === undefined) return [];
  const steps = asArray(at(rollout, "spec", "strategy", "canary", "steps")).length;
  const index = at(rollout, "status", "currentStepIndex");
  const step = typeof index === "number" ? `, step ${Math.min(index, steps)} of ${steps}` : "";
  const { body: runs } = await callApi(api, "GET", `${argo}/analysisruns`);
  const analysis = asText(at(asArray(at(runs, "items")).at(-1), "status", "phase"));
  return [`     Rollout cart: ${phase}${step}${analysis === undefined ? "" : `, analysis ${analysis}`}`];
}
