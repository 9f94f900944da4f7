import { sleep, systemClock } from "../../src/lib/clock.ts";
import { at } from "../../src/lib/json.ts";
import { mergePatchRequest } from "../../src/kube/request.ts";
import { configMaps, stageSets, startBenchCluster, startProgram } from "./cluster.ts";
import { configMap, namespace, objectName, stageSet, type Shape } from "./manifests.ts";
import { each, figure, percentile, prepare, print } from "./measure.ts";
import { isReadyAt, observe } from "./observer.ts";

const edits = 40;

/** From the answer to a foreign edit until an outside watch sees it undone, one edit after the other. */
export async function driftRow(shape: Shape): Promise<void> {
  await using cluster = await startBenchCluster({ kwok: false });
  await prepare(cluster, shape, configMap);
  await using program = await startProgram(cluster.plane);
  using seen = observe(cluster.client, stageSets);
  const done = seen.until(shape.stageSets, isReadyAt("v1"));
  await each(shape.stageSets, (index) => cluster.apply(stageSet(shape, index)));
  await done;
  await sleep(systemClock, 3_000);
  using objects = observe(cluster.client, configMaps);
  const times: number[] = [];
  for (let edit = 0; edit < edits; edit++) {
    const name = objectName(edit % shape.stageSets, 0, Math.floor(edit / shape.stageSets) % shape.objects);
    const patch = { data: { version: `edited-${edit}` } };
    await cluster.client.send(mergePatchRequest(configMaps, { namespace, name, patch }));
    const started = systemClock.monotonic();
    await objects.until(
      1,
      (object) => object.metadata.name === name && String(at(object, "data", "version")).startsWith("edited"),
    );
    const undone = await objects.until(
      1,
      (object) => object.metadata.name === name && at(object, "data", "version") === "v1",
    );
    times.push(undone - started);
  }
  const rssMb = await program.rssMb();
  print(figure("drift-undone-p50", { ours: percentile(times, 0.5), unit: "ms", budget: "-", rssMb }));
  print(figure("drift-undone-p95", { ours: percentile(times, 0.95), unit: "ms", budget: "1000 ms", rssMb }));
}
