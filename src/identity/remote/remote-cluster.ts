import type { ClientCertificate, Impersonation } from "../../kube/credential.ts";
import { IdentityError } from "../identity-error.ts";

/** What a kubeconfig or a cloud identity leads to, once it has been found to be harmless. Holds secrets: never shown. */
export interface RemoteCluster {
  /** An https URL without credentials. */
  readonly server: URL;
  /** Undefined: the system's roots. */
  readonly caPem: string | undefined;
  readonly tlsServerName: string | undefined;
  readonly insecureSkipTlsVerify: boolean;
  readonly proxy: URL | undefined;
  readonly certificate: ClientCertificate | undefined;
  /** The `authorization` header of one request; undefined: none. */
  readonly authorization: ((signal: AbortSignal) => Promise<string>) | undefined;
  /** Whom the kubeconfig itself asks to act as. */
  readonly actsAs: Impersonation | undefined;
}

/** Content that only an edit can mend; `problem` names the field and quotes nothing of a Secret. */
export function invalidTarget(where: string, problem: string): IdentityError {
  return new IdentityError("TargetInvalid", `spec.kubeConfig: ${where}: ${problem}`);
}

const hostLabel = /^[a-z0-9_*-]+(?:\.[a-z0-9_*-]+)*\.?$/i;

/**
 * The URL of an API server or proxy.
 *
 * @param fail makes the error from a problem that follows the field's name
 */
export function checkedUrl(
  text: string,
  o: { readonly schemes: readonly string[]; readonly fail: (problem: string) => Error },
): URL {
  const url = URL.parse(text);
  if (url === null) throw o.fail("is no URL: give one with a host");
  const scheme = url.protocol.slice(0, -1);
  if (!o.schemes.includes(scheme))
    throw o.fail(`has scheme "${shown(scheme)}": only ${o.schemes.join(" or ")} is used`);
  if (url.username !== "" || url.password !== "") throw o.fail("carries a user or password: take them out of the URL");
  if (url.search !== "" || url.hash !== "") throw o.fail("carries a query or fragment: take it out of the URL");
  return url;
}

/** The text of an HTTP header must be printable: what is sent would be another header otherwise. */
export function isPrintable(text: string): boolean {
  return /^[\x20-\x7e]+$/.test(text);
}

export function isHostName(text: string): boolean {
  return text.length <= 253 && hostLabel.test(text);
}

/** Text from outside in a message. */
export function shown(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, "?").slice(0, 100);
}
