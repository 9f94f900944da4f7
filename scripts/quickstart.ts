/**
 * The main job on an embedded control plane: ships examples/quickstart in three stages, shows each becoming Ready and the
 * gate opening, then rolls a second revision through. Ends clean; `--keep` leaves everything up until interrupted.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { type ApiTarget, callApi } from "../src/dev/api-call.ts";
import { startControlPlane } from "../src/dev/control-plane.ts";
import { installCrds } from "../src/dev/crds.ts";
import { freePort } from "../src/dev/free-port.ts";
import { readFolder, startPublisher, type Publisher } from "../src/dev/publisher.ts";
import { sleep, systemClock } from "../src/lib/clock.ts";
import { asArray, asText, at } from "../src/lib/json.ts";

const root = fileURLToPath(new URL("../", import.meta.url));
const example = join(root, "examples", "quickstart");
const stages = ["config", "app", "after"];
const releaseTimeoutMs = 120_000;
const keep = process.argv.includes("--keep");
const plurals: Readonly<Record<string, string>> = {
  Namespace: "namespaces",
  ServiceAccount: "serviceaccounts",
  ClusterRoleBinding: "clusterrolebindings",
  StageSet: "stagesets",
};
const marks: Readonly<Record<string, string>> = { Ready: "✓", Failed: "✗", Pending: "·" };

const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.on(signal, () => interrupted.abort(new Error(`stopped by ${signal}`)));

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

  const gatePort = await freePort();
  const controller = await startProgram(dir, plane.kubeconfigPath, gatePort);
  stack.defer(() => endProgram(controller));
  await applyFile(api, "namespace.yaml");
  const publisher = stack.use(await startPublisher(api));
  await publish(publisher, 1);
  await applyFile(api, "stage-set.yaml");
  say("Published revision 1 of three artifacts and created StageSet shop/shop\n");

  const gate = `http://127.0.0.1:${gatePort}/gate/shop/shop/after`;
  await follow(api, { revision: "v1", gate });
  say("\nEvery stage is Ready. Publishing revision 2 of all three artifacts\n");
  await publish(publisher, 2);
  await follow(api, { revision: "v2", gate });
  say("\nRevision 2 is rolled out, stage by stage.\n");
  showNext(plane.kubeconfigPath, gate);
  if (!keep) return 0;
  say("\nLeft running; press Ctrl-C to stop everything.");
  await sleep(systemClock, 24 * 3_600_000, interrupted.signal).catch(() => undefined);
  return 0;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function progress(line: string): void {
  process.stderr.write(`  ${line}\n`);
}

/** The program users run, against this cluster; its log goes to a file that is shown when it ends early. */
async function startProgram(dir: string, kubeconfig: string, gatePort: number): Promise<ChildProcess> {
  const health = await freePort();
  const args = [
    "--enable-webhook=false",
    "--dev-allow-loopback",
    "--log-format=text",
    "--metrics-bind-address=0",
    `--health-probe-bind-address=127.0.0.1:${health}`,
    `--gate-bind-address=127.0.0.1:${gatePort}`,
  ];
  const logFile = join(dir, "controller.log");
  const child = spawn(join(root, "bin", "stageset-controller"), args, {
    env: { ...process.env, KUBECONFIG: kubeconfig },
    stdio: ["ignore", "ignore", "pipe"],
    detached: true,
  });
  child.stderr.pipe(createWriteStream(logFile));
  for (const giveUpAt = systemClock.monotonic() + 30_000; ;) {
    const ready = await fetch(`http://127.0.0.1:${health}/readyz`).then(
      (response) => response.status === 200,
      () => false,
    );
    if (ready) break;
    if (child.exitCode !== null || systemClock.monotonic() > giveUpAt)
      throw new Error(`the controller did not start:\n${await readFile(logFile, "utf8")}`);
    await sleep(systemClock, 50, interrupted.signal);
  }
  say("The controller runs");
  return child;
}

async function endProgram(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const timer = systemClock.timer(10_000, () => child.kill("SIGKILL"));
  await ended;
  timer[Symbol.dispose]();
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

async function applyFile(api: ApiTarget, file: string): Promise<void> {
  for (const document of parseAllDocuments(await readFile(join(example, file), "utf8"))) {
    const object: unknown = document.toJS();
    const path = pathOf(object);
    const answer = await callApi(api, "PATCH", `${path}?fieldManager=quickstart`, {
      body: object,
      contentType: "application/apply-patch+yaml",
    });
    if (answer.status >= 300) throw new Error(`cannot apply ${file}: ${asText(at(answer.body, "message")) ?? ""}`);
  }
}

function pathOf(object: unknown): string {
  const apiVersion = asText(at(object, "apiVersion")) ?? "";
  const namespace = asText(at(object, "metadata", "namespace"));
  const rootPath = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const scope = namespace === undefined ? "" : `/namespaces/${namespace}`;
  return `${rootPath}${scope}/${plurals[asText(at(object, "kind")) ?? ""] ?? ""}/${asText(at(object, "metadata", "name")) ?? ""}`;
}

/** Shows the stages whenever one of them, or the gate's answer, changes, until all are Ready at the revision. */
async function follow(
  api: ApiTarget,
  { revision, gate }: { readonly revision: string; readonly gate: string },
): Promise<void> {
  const started = systemClock.monotonic();
  let shown = "";
  for (;;) {
    const { body } = await callApi(api, "GET", "/apis/stages.metio.wtf/v1/namespaces/shop/stagesets/shop");
    const answer = await fetch(gate).then(
      async (response) => `${response.status} ${(await response.text()).trim()}`,
      () => "not listening yet",
    );
    const lines = [...renderTree(body), `  gate of stage "after": ${answer}`];
    if (lines.join("\n") !== shown) {
      shown = lines.join("\n");
      const elapsed = ((systemClock.monotonic() - started) / 1_000).toFixed(1);
      say(`[${elapsed.padStart(5)}s] ${shown}`);
    }
    const done = stages.every((name) => {
      const stage = asArray(at(body, "status", "stages")).find((each) => at(each, "name") === name);
      return at(stage, "phase") === "Ready" && at(stage, "appliedRevision") === revision;
    });
    if (done && answer.startsWith("200")) return;
    if (systemClock.monotonic() - started > releaseTimeoutMs)
      throw new Error("the release is not Ready after 2 minutes");
    await sleep(systemClock, 100, interrupted.signal);
  }
}

function renderTree(stageSet: unknown): readonly string[] {
  const ready = asArray(at(stageSet, "status", "conditions")).find((each) => at(each, "type") === "Ready");
  const summary = ready === undefined ? "not seen yet" : (asText(at(ready, "reason")) ?? "");
  const lines = stages.map((name, index) => {
    const stage = asArray(at(stageSet, "status", "stages")).find((each) => at(each, "name") === name);
    const phase = asText(at(stage, "phase")) ?? "Pending";
    const revision = asText(at(stage, "appliedRevision")) ?? "-";
    const branch = index === stages.length - 1 ? "└─" : "├─";
    return `  ${branch} ${marks[phase] ?? "…"} ${name.padEnd(7)} ${phase.padEnd(10)} ${revision}`;
  });
  return [`StageSet shop/shop: ${summary}`, ...lines];
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
