import type { KubeError } from "./error.ts";

/** A TLS client certificate: PEM texts. */
export interface ClientCertificate {
  readonly certPem: string;
  readonly keyPem: string;
}

export type AuthHeaders = Readonly<Record<string, string | string[]>>;

/** What proves an identity to an API server. */
export interface Credential {
  /** Presented on every connection, which is then shared with no other identity. */
  readonly certificate?: ClientCertificate;
  /**
   * The headers of one request; asked anew for each, so that a long wait never ends on an expired token.
   *
   * @throws its own error when no credential can be had
   */
  authorize(o: { readonly signal: AbortSignal }): Promise<AuthHeaders>;
  /** Told that 401 answered these headers; true when a repeat would carry others. */
  renew?(refused: AuthHeaders): boolean;
  /** What to throw when a repeat was answered 401 too; default: the server's refusal. */
  explain?(refusal: KubeError): Error;
}

/** No headers and no certificate. */
export const anonymous: Credential = { authorize: () => Promise.resolve({}) };

export function tokenCredential(token: string): Credential {
  const headers = Promise.resolve({ authorization: `Bearer ${token}` });
  return { authorize: () => headers };
}

export function basicCredential(username: string, password: string): Credential {
  const headers = Promise.resolve({
    authorization: `Basic ${Buffer.from(`${username}:${password}`, "utf8").toString("base64")}`,
  });
  return { authorize: () => headers };
}

export function certificateCredential(certificate: ClientCertificate): Credential {
  return { certificate, authorize: () => Promise.resolve({}) };
}

/** Whom to act as on top of a credential's own rights. */
export interface Impersonation {
  readonly user: string;
  readonly uid?: string;
  readonly groups?: readonly string[];
  readonly extra?: Readonly<Record<string, readonly string[]>>;
}

/** Adds impersonation headers; the server refuses them unless the credential may `impersonate`. */
export function impersonating(credential: Credential, as: Impersonation): Credential {
  const added: AuthHeaders = {
    "impersonate-user": as.user,
    ...(as.uid === undefined ? {} : { "impersonate-uid": as.uid }),
    ...(as.groups === undefined || as.groups.length === 0 ? {} : { "impersonate-group": [...as.groups] }),
    ...Object.fromEntries(
      Object.entries(as.extra ?? {}).map(([key, values]) => [
        `impersonate-extra-${encodeURIComponent(key)}`,
        [...values],
      ]),
    ),
  };
  return {
    ...credential,
    authorize: async (o) => ({ ...(await credential.authorize(o)), ...added }),
  };
}

/**
 * A token kept in a file that its owner replaces, as kubelet does for pods. Read again after a minute and after a 401.
 *
 * @param readToken reads the file; its error reaches the caller of the request
 * @param now monotonic milliseconds
 */
export function tokenFileCredential(readToken: () => Promise<string>, now: () => number): Credential {
  let held: { readonly token: string; readonly readAt: number } | undefined;
  const maxAgeMs = 60_000;
  return {
    async authorize() {
      if (held === undefined || now() - held.readAt >= maxAgeMs) {
        held = { token: (await readToken()).trim(), readAt: now() };
      }
      return { authorization: `Bearer ${held.token}` };
    },
    renew() {
      held = undefined;
      return true;
    },
  };
}
