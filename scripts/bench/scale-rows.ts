import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/lib/clock.ts";
import { asText, at } from "../../src/lib/json.ts";
import { getRequest } from "../../src/kube/request.ts";
import { externalArtifacts, stageSets, startBenchCluster, startProgram } from "./cluster.ts";
import { configMap, namespace, stageSet, type Shape } from "./manifests.ts";
import { before, floorOfApplies, prepare, print, release, rowOf, since } from "./measure.ts";
import { isReadyAt, observe } from "./observer.ts";

/** A first release of this shape, of ConfigMaps. */
export async function releaseRow(shape: Shape): Promise<void> {
  const floorMs = await floorOfApplies(shape, configMap);
  await using cluster = await startBenchCluster({ kwok: false });
  await prepare(cluster, shape, configMap);
  await using program = await startProgram(cluster.plane);
  const start = await before(cluster, program);
  const oursMs = await release(cluster, shape);
  const what = `${shape.stageSets}x${shape.stages}x${shape.objects}-configmaps-install`;
  print(rowOf(what, "-", { oursMs, floorMs, ...(await since(cluster, program, start)) }));
}

const entryMiB = 10;

/** One artifact of this many MiB that hardly compresses; a stage of it is one small ConfigMap. */
export async function bigArtifactRow(mebibytes: number): Promise<void> {
  const shape: Shape = { stageSets: 1, stages: 1, objects: 1 };
  await using cluster = await startBenchCluster({ kwok: false });
  await prepare(cluster, shape, configMap);
  const noise = (bytes: number): string => {
    let seed = 1;
    return Array.from({ length: bytes }, () => {
      seed = (seed * 48_271) % 2_147_483_647;
      return String.fromCharCode(33 + (seed % 90));
    }).join("");
  };
  const block = noise(entryMiB * 1024 * 1024);
  const files: Record<string, string> = { "0/0.yaml": JSON.stringify(configMap("s0-0-0", "v1")) };
  // Rotated, so that no part of it is like another one nearby.
  for (let index = 0; index * entryMiB < mebibytes; index++)
    files[`blobs/${index}.bin`] = block.slice(index * 1_009) + block.slice(0, index * 1_009);
  await cluster.publisher.publish({ namespace, name: "s0", revision: "v1", files });
  const source = await cluster.client.send(getRequest(externalArtifacts, { namespace, name: "s0" }));
  const floorMs = await bareUnpack(asText(at(source, "status", "artifact", "url")) ?? "");
  await using program = await startProgram(cluster.plane);
  using seen = observe(cluster.client, stageSets);
  const start = await before(cluster, program);
  const started = systemClock.monotonic();
  const done = seen.until(1, isReadyAt("v1"));
  await cluster.apply(stageSet(shape, 0));
  const oursMs = (await done) - started;
  print(rowOf(`artifact-of-${mebibytes}-mib`, "-", { oursMs, floorMs, ...(await since(cluster, program, start)) }));
}

/** What nobody can do without: to download the archive, hash it and unpack it, with the system's own `tar`. */
async function bareUnpack(url: string): Promise<number> {
  const dir = await mkdtemp(join(tmpdir(), "stageset-bench-"));
  const started = systemClock.monotonic();
  const response = await fetch(url);
  const bytes = Buffer.from(await response.arrayBuffer());
  createHash("sha256").update(bytes).digest();
  const tar = spawn("tar", ["-xzf", "-", "-C", dir], { stdio: ["pipe", "ignore", "inherit"] });
  const ended = new Promise((resolve, reject) => tar.once("exit", resolve).once("error", reject));
  tar.stdin.end(bytes);
  await ended;
  const ms = systemClock.monotonic() - started;
  await rm(dir, { recursive: true });
  return ms;
}
