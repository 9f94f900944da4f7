import { randomBytes, timingSafeEqual } from "node:crypto";
import { CommandFailed, type CommandIo } from "../cli/command-io.ts";
import { openHub, type Hub, type HubFlags } from "../cli/hub.ts";
import { listStageSets } from "../cli/read-stage-sets.ts";
import { stageSets as stageSetResource } from "../engine/resources.ts";
import type { Callers } from "../http/ui/callers.ts";
import { createUi, uiHeaders } from "../http/ui/ui.ts";
import { listen } from "../http/server.ts";
import { startCache, type ResourceCache } from "../kube/cache.ts";
import { KubeError } from "../kube/error.ts";
import { listRequest } from "../kube/request.ts";
import { abortable } from "../lib/abortable.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { silentLogger } from "../lib/telemetry.ts";
import { fleetResource, withoutManagedFields } from "./own-caches.ts";
import { createUiView, readUiAssets } from "./start-ui.ts";

export interface UiFlags extends HubFlags {
  /** 0: any that is free. */
  readonly port: number;
}

const loopback = "127.0.0.1";

/**
 * `stagesetctl ui`: the page of the web UI on loopback, of what the caller may list: all namespaces, or the one of `-n`.
 * Whoever else is on the machine would see it with the caller's rights, so the printed address carries a token. Runs until
 * it is ended.
 *
 * @throws {CommandFailed} it cannot list StageSets, or the port is taken
 */
export async function runUi(flags: UiFlags, io: CommandIo): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const hub = stack.use(await openHub(flags, io));
  const namespace = flags.namespace === undefined ? undefined : hub.namespace;
  await listStageSets(hub, { namespace, limit: 1 }, io);
  const base = { client: hub.client, clock: io.clock, project: withoutManagedFields };
  const namespaces = namespace === undefined ? undefined : [namespace];
  const stageSets = stack.use(startCache({ ...base, resource: stageSetResource, namespaces }));
  const fleets = stack.use(
    // Nobody has to be allowed to read them.
    startCache({ ...base, resource: fleetResource, ...((await mayList(hub, io)) ? {} : { namespaces: [] }) }),
  );
  await Promise.all([stageSets, fleets].map((cache: ResourceCache<KubeObject>) => cache.whenSynced(io.signal)));
  const view = stack.use(
    createUiView({
      caches: { stageSets, fleets },
      sources: undefined,
      leaseRenewedAt: () => undefined,
      clock: io.clock,
    }),
  );
  const token = randomBytes(24).toString("base64url");
  const ui = stack.use(
    createUi({
      view,
      callers: holderOf(token),
      assets: await readUiAssets(),
      hosts: (host) => /^(?:127\.0\.0\.1|localhost)(?::\d+)?$/.test(host),
      clock: io.clock,
      logger: silentLogger,
    }),
  );
  const listener = stack.use(
    await listen({
      host: loopback,
      port: flags.port,
      handler: ui.handler,
      headers: uiHeaders,
      clock: io.clock,
      logger: silentLogger,
    }).catch((error: unknown) => {
      const why = error instanceof Error ? error.message : String(error);
      throw new CommandFailed(`Cannot listen on "${loopback}:${flags.port}": ${why}`, { cause: error });
    }),
  );
  io.out(`http://${loopback}:${listener.address.port}/#token=${token}\n`);
  io.error("note: the page has your rights; it is there until this command is ended\n");
  return await abortable(new Promise<number>(() => undefined), io.signal);
}

/** Whoever has the token reads what the command's caller may. */
function holderOf(token: string): Callers {
  const wanted = Buffer.from(`Bearer ${token}`);
  const caller = { name: "", isValid: () => Promise.resolve(true), may: () => Promise.resolve(true) };
  return {
    identify: (request) => {
      const given = Buffer.from(request.header("authorization") ?? "");
      const isHolder = given.byteLength === wanted.byteLength && timingSafeEqual(given, wanted);
      return Promise.resolve(isHolder ? { kind: "caller", caller } : { kind: "unauthenticated" });
    },
  };
}

async function mayList(hub: Hub, { signal }: CommandIo): Promise<boolean> {
  try {
    await hub.client.send(listRequest(fleetResource, { limit: 1 }), { signal });
    return true;
  } catch (error) {
    if (error instanceof KubeError) return false;
    throw error;
  }
}
