import type { Fact, FactKey } from "../../domain/pass/state.ts";
import type { Pass } from "../pass.ts";
import type { Engine } from "../engine.ts";
import { inPhase } from "../phase.ts";
import { namespaces } from "../resources.ts";
import { getRequest } from "../../kube/request.ts";
import { KubeError } from "../../kube/error.ts";
import { at } from "../../lib/json.ts";
import { readBudget } from "./budget.ts";
import { readConnection } from "./connection.ts";
import { readDependencies } from "./dependencies.ts";
import { checkExpressions } from "./expressions.ts";
import { readImages } from "./images.ts";
import { readPins } from "./pins.ts";
import { readGateMetrics } from "./gate-metrics.ts";
import { readPods } from "./pods.ts";
import { readPreflight } from "./preflight.ts";
import { readHealth, readReadiness } from "./readiness.ts";
import { recoverInventory } from "./recovery.ts";
import { readLadder } from "./ladder.ts";
import { readRender } from "./render.ts";
import { readLedger, readWitness } from "./witness.ts";
import { readVersionFile } from "./version-file.ts";
import { readWindows } from "./windows.ts";

/** Reads one fact. A refusal or loss becomes a `failed` fact, which the core turns into an outcome. */
export async function readFact(engine: Engine, pass: Pass, key: FactKey, signal: AbortSignal): Promise<Fact> {
  switch (key.kind) {
    case "dependencies":
      return readDependencies(engine, pass, signal);
    case "pins":
      return readPins(engine, pass, signal);
    case "windows":
      return readWindows(engine, pass);
    case "budget":
      return readBudget(engine, pass, key);
    case "expressions":
      return checkExpressions(engine, pass, signal);
    case "connection":
      return readConnection(engine, pass, key, signal);
    case "render":
      return readRender(engine, pass, key, signal);
    case "ladder":
      return inPhase(engine, pass, { span: "stageset.planMigrations", attributes: {} }, () =>
        readLadder(engine, pass, signal),
      );
    case "versionFile":
      return readVersionFile(engine, pass, key, signal);
    case "preflight":
      return inPhase(engine, pass, { span: "stage.preflight", attributes: { stage: key.stage } }, () =>
        readPreflight(engine, pass, key, signal),
      );
    case "images":
      return inPhase(
        engine,
        pass,
        { span: "stage.verifyImages", measuredAs: "verify_images", attributes: { stage: key.stage } },
        async (span) => {
          const fact = await readImages(engine, pass, key, signal);
          if (fact.kind === "failed") span.fail(fact.failure.message);
          return fact;
        },
      );
    case "readiness":
      return inPhase(engine, pass, { span: "stage.verify", attributes: { stage: key.stage } }, async (span) => {
        const fact = await readReadiness(engine, pass, key, signal);
        if (fact.kind === "readiness" && fact.readiness.kind === "failed") span.fail(fact.readiness.cause);
        return fact;
      });
    case "health":
      return readHealth(engine, pass, key, signal);
    case "gateMetrics":
      return readGateMetrics(engine, pass, key);
    case "pods":
      return readPods(engine, pass, key, signal);
    case "recovery":
      return recoverInventory(engine, pass, key.stages, signal);
    case "ledger":
      return readLedger(engine, pass, signal);
    case "witness":
      return readWitness(engine, pass, key, signal);
    case "namespace":
      return readNamespace(engine, pass, signal);
  }
}

/** Unreadable counts as not terminating: the finalizer then waits for the longer bound. */
async function readNamespace(engine: Engine, pass: Pass, signal: AbortSignal): Promise<Fact> {
  try {
    const request = getRequest(namespaces, { name: pass.key.namespace });
    const namespace = await engine.access.controller.client.send(request, { signal });
    return { kind: "namespace", terminating: at(namespace, "metadata", "deletionTimestamp") !== undefined };
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    return { kind: "namespace", terminating: error.reason === "NotFound" };
  }
}
