import type { KubeClient } from "../kube/client.ts";
import { secrets } from "../kube/core-resources.ts";
import { isKubeError } from "../kube/error.ts";
import { createRequest, getRequest, replaceRequest, watchRequest } from "../kube/request.ts";
import { asText, at } from "../lib/json.ts";
import type { PairMaterial } from "./pair.ts";

/** The Secret all replicas share. */
export interface ServingSecret {
  /** @throws {KubeError} every refusal but that it is absent */
  read(signal: AbortSignal): Promise<StoredSecret | undefined>;
  /**
   * Creates it, or replaces what was read.
   *
   * @throws {KubeError} `Conflict`, `AlreadyExists`: another replica was first; what it wrote counts
   */
  write(
    content: SecretContent,
    o: { readonly over: StoredSecret | undefined; readonly signal: AbortSignal },
  ): Promise<void>;
  /** Yields whenever it may have changed, until the server ends the stream. */
  changes(signal: AbortSignal): AsyncIterable<unknown>;
}

export interface SecretContent extends PairMaterial {
  readonly previousCaPem: string | undefined;
}

/** What is stored; entries that are missing are empty. */
export interface StoredSecret extends SecretContent {
  readonly object: unknown;
}

const fieldManager = "stageset-controller";
const previousKey = "previous-ca.crt";

export function createServingSecret(
  client: KubeClient,
  { namespace, name }: { readonly namespace: string; readonly name: string },
): ServingSecret {
  return {
    async read(signal) {
      try {
        return stored(await client.send(getRequest(secrets, { namespace, name }), { signal, urgent: true }));
      } catch (error) {
        if (isKubeError(error, "NotFound")) return undefined;
        throw error;
      }
    },
    async write(content, { over, signal }) {
      const data = {
        "tls.crt": encode(content.certPem),
        "tls.key": encode(content.keyPem),
        "ca.crt": encode(content.caPem),
        ...(content.previousCaPem === undefined ? {} : { [previousKey]: encode(content.previousCaPem) }),
      };
      const request =
        over === undefined
          ? createRequest(secrets, {
              namespace,
              fieldManager,
              object: {
                apiVersion: "v1",
                kind: "Secret",
                metadata: { namespace, name },
                type: "kubernetes.io/tls",
                data,
              },
            })
          : replaceRequest(secrets, { namespace, name, fieldManager, object: { ...Object(over.object), data } });
      await client.send(request, { signal, urgent: true });
    },
    changes: (signal) =>
      client.stream(watchRequest(secrets, { namespace, fieldSelector: `metadata.name=${name}` }), { signal }),
  };
}

function stored(object: unknown): StoredSecret {
  const entry = (key: string): string => decode(asText(at(object, "data", key)) ?? "");
  const previousCaPem = entry(previousKey);
  return {
    object,
    certPem: entry("tls.crt"),
    keyPem: entry("tls.key"),
    caPem: entry("ca.crt"),
    previousCaPem: previousCaPem === "" ? undefined : previousCaPem,
  };
}

function encode(text: string): string {
  return Buffer.from(text).toString("base64");
}

function decode(base64: string): string {
  return Buffer.from(base64, "base64").toString();
}
