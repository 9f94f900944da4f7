import { X509Certificate } from "node:crypto";
import { containerLists, podSpecPath } from "../domain/images/pod-spec.ts";
import { invalid, type Manifest } from "./manifest.ts";
import {
  emptyMapping,
  isMapping,
  isSequence,
  mappingAt,
  textAt,
  valueAt,
  withMembers,
  type YamlMapping,
  type YamlValue,
} from "./yaml-value.ts";

const serverFields = {
  ...{ uid: undefined, resourceVersion: undefined, generation: undefined, creationTimestamp: undefined },
  ...{ managedFields: undefined, selfLink: undefined },
};

/** The object as it is applied (spec 20 §5.5), or undefined when it is none of the cluster's. */
export function normaliseManifest(manifest: Manifest): Manifest | undefined {
  if (manifest.group === "kustomize.config.k8s.io") return undefined;
  const kind = `${manifest.group}/${manifest.kind}`;
  const isDefinition = kind === "apiextensions.k8s.io/CustomResourceDefinition";
  let value = change(manifest.value, ["metadata"], (metadata) =>
    isMapping(metadata) ? withMembers(metadata, serverFields) : metadata,
  );
  if (!isDefinition) value = withMembers(value, { status: undefined });
  if (kind === "/Secret") value = withEncodedData(manifest, value);
  if (kind === "/Service") value = change(value, ["spec", "ports"], withProtocols);
  if (isDefinition) value = withoutBrokenBundle(value);
  const podSpec = podSpecPath(manifest);
  if (podSpec !== undefined) {
    for (const containers of containerLists) value = change(value, [...podSpec, containers], withContainerProtocols);
  }
  return { ...manifest, value };
}

/** The mapping with the value at this path replaced; as it is when the path is not there. */
function change(
  mapping: YamlMapping,
  [key = "", ...rest]: readonly string[],
  to: (value: YamlValue) => YamlValue | undefined,
): YamlMapping {
  const found = Object.hasOwn(mapping, key) ? mapping[key] : undefined;
  if (found === undefined) return mapping;
  if (rest.length === 0) return withMembers(mapping, { [key]: to(found) });
  return isMapping(found) ? withMembers(mapping, { [key]: change(found, rest, to) }) : mapping;
}

function withProtocols(ports: YamlValue): YamlValue {
  if (!isSequence(ports)) return ports;
  return ports.map((port) =>
    isMapping(port) && (port["protocol"] ?? "") === "" ? withMembers(port, { protocol: "TCP" }) : port,
  );
}

function withContainerProtocols(containers: YamlValue): YamlValue {
  if (!isSequence(containers)) return containers;
  return containers.map((container) =>
    isMapping(container) ? change(container, ["ports"], withProtocols) : container,
  );
}

/** `stringData` wins over `data`, as on the server, and is gone: what is compared with the live object is `data`. */
function withEncodedData(manifest: Manifest, value: YamlMapping): YamlMapping {
  const plain = valueAt(value, "stringData");
  if (plain === undefined) return value;
  if (plain === null) return withMembers(value, { stringData: undefined });
  if (!isMapping(plain)) throw invalid(manifest, `"stringData" must be a mapping`);
  const encoded = emptyMapping();
  for (const key of Object.keys(plain)) {
    const text = plain[key];
    if (typeof text !== "string") throw invalid(manifest, `"stringData" entry "${key}" must be text`);
    encoded[key] = Buffer.from(text, "utf8").toString("base64");
  }
  return withMembers(value, {
    stringData: undefined,
    data: withMembers(mappingAt(value, "data") ?? emptyMapping(), encoded),
  });
}

function withoutBrokenBundle(value: YamlMapping): YamlMapping {
  const path = ["spec", "conversion", "webhook", "clientConfig", "caBundle"];
  if (valueAt(value, ...path) === undefined || isCertificate(textAt(value, ...path))) return value;
  return change(value, path, () => undefined);
}

function isCertificate(base64: string): boolean {
  const pem = Buffer.from(base64, "base64").toString("latin1");
  if (!pem.includes("-----BEGIN CERTIFICATE-----")) return false;
  try {
    new X509Certificate(pem);
    return true;
  } catch {
    return false;
  }
}
