import type { ComputePool } from "../compute/pool.ts";
import { hostAllowance } from "../domain/formats/host-glob.ts";
import type { AccessProvider } from "../identity/access.ts";
import type { ConnectionOptions } from "../identity/remote/connection.ts";
import { parseTenantYaml, yamlJobName } from "../identity/remote/yaml-job.ts";
import { createTargetProvider, type TargetProvider } from "../identity/remote/targets.ts";
import type { Clock } from "../lib/clock.ts";
import type { CloudCaller } from "../outbound/cloud-call.ts";
import { createHostGuard } from "../outbound/host-guard.ts";
import type { Config } from "./config.ts";

/** Texts up to this size take a few milliseconds to parse; larger ones go to a worker. */
const smallCharacters = 32 * 1024;
const parseTimeoutMs = 10_000;

/** The clusters of `spec.kubeConfig`, as the flags allow them. */
export function buildTargets(parts: {
  readonly config: Config;
  readonly access: AccessProvider;
  readonly connections: ConnectionOptions;
  readonly compute: ComputePool;
  readonly cloud: CloudCaller;
  readonly clock: Clock;
}): TargetProvider & Disposable {
  const { config, access, connections, compute, cloud, clock } = parts;
  const { allowLoopback, ownAddresses } = config;
  return createTargetProvider({
    ...connections,
    access,
    guards: {
      server: createHostGuard({ allowLoopback, ownAddresses, clock }),
      // A proxy on loopback is no API server of a developer (spec 50 §2.3).
      proxy: createHostGuard({ allowLoopback: false, ownAddresses, clock }),
    },
    aws: { call: (request, o) => cloud.call(request, o), now: () => clock.now(), env: config.env },
    isAllowedHost: hostAllowance(config.allowedKubeConfigHosts),
    defaultServiceAccount: config.defaultKubeConfigServiceAccount,
    insecureTls: config.insecureKubeConfigTls,
    parseYaml: (text, { queue, signal }) =>
      text.length > smallCharacters
        ? compute.run(yamlJobName, text, { queue, signal, timeoutMs: parseTimeoutMs })
        : Promise.try(parseTenantYaml, text),
  });
}
