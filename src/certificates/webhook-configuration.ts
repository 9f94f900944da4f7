import type { KubeClient } from "../kube/client.ts";
import { isKubeError } from "../kube/error.ts";
import { type ApiResource, getRequest, replaceRequest } from "../kube/request.ts";
import { retryDelayMs } from "../kube/retry.ts";
import { type Clock, sleep } from "../lib/clock.ts";
import { asArray, asObject, asText, at } from "../lib/json.ts";

/** The configuration by which the API server finds and trusts the webhook. */
export interface WebhookConfiguration {
  /** Decoded caBundle of each entry; undefined: there is no such configuration. @throws {KubeError} */
  read(signal: AbortSignal): Promise<readonly string[] | undefined>;
  /**
   * Has every entry hold what `bundleOf` makes of what they hold. Conflicts, 5xx and 429 are tried again, from what is
   * stored then.
   *
   * @throws {KubeError} refused, or given up
   */
  write(bundleOf: (bundles: readonly string[]) => string, signal: AbortSignal): Promise<void>;
}

const configurations: ApiResource = {
  group: "admissionregistration.k8s.io",
  version: "v1",
  kind: "ValidatingWebhookConfiguration",
  plural: "validatingwebhookconfigurations",
  namespaced: false,
  verbs: [],
};
export const configurationResource = `${configurations.plural}.${configurations.group}`;
const attempts = 8;
const conflictDelayMs = 50;

export function createWebhookConfiguration(
  client: KubeClient,
  { name, clock }: { readonly name: string; readonly clock: Clock },
): WebhookConfiguration {
  const get = (signal: AbortSignal): Promise<unknown> =>
    client.send(getRequest(configurations, { name }), { signal, urgent: true });
  const replace = async (bundleOf: (bundles: readonly string[]) => string, signal: AbortSignal): Promise<void> => {
    const object = await get(signal);
    const bundles = bundlesOf(object);
    const bundle = bundleOf(bundles);
    if (bundle === "" || bundles.every((each) => each === bundle)) return;
    const changed = {
      ...asObject(object),
      webhooks: asArray(at(object, "webhooks")).map((entry) => trusting(entry, bundle)),
    };
    const request = replaceRequest(configurations, { name, fieldManager: "stageset-controller", object: changed });
    await client.send(request, { signal, urgent: true });
  };
  return {
    async read(signal) {
      try {
        return bundlesOf(await get(signal));
      } catch (error) {
        if (isKubeError(error, "NotFound")) return undefined;
        throw error;
      }
    },
    async write(bundleOf, signal) {
      for (let attempt = 1; ; attempt++) {
        try {
          await replace(bundleOf, signal);
          return;
        } catch (error) {
          const delayMs = attempt < attempts ? delayOf(error, attempt) : undefined;
          if (delayMs === undefined) throw error;
          await sleep(clock, delayMs, signal);
        }
      }
    },
  };
}

function delayOf(error: unknown, attempt: number): number | undefined {
  if (isKubeError(error, "Conflict")) return conflictDelayMs * attempt;
  return retryDelayMs({ method: "PUT", path: "" }, error, Math.min(attempt, 3));
}

function trusting(entry: unknown, bundle: string): unknown {
  const fields = asObject(entry) ?? {};
  const caBundle = Buffer.from(bundle).toString("base64");
  return { ...fields, clientConfig: { ...asObject(fields["clientConfig"]), caBundle } };
}

function bundlesOf(object: unknown): readonly string[] {
  return asArray(at(object, "webhooks")).map((entry) =>
    Buffer.from(asText(at(entry, "clientConfig", "caBundle")) ?? "", "base64").toString(),
  );
}
