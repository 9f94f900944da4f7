/** A request as far as handlers read it. Bodies are never read. */
export interface HttpRequest {
  readonly method: string;
  /** The request target as it was sent: raw path and query. */
  readonly target: string;
  /** All values of a header joined by a comma; the name in lower case. */
  header(name: string): string | undefined;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;
}

/** Answers a request; a rejection becomes 500 without detail. `signal` aborts when the client is gone or time is up. */
export type HttpHandler = (
  request: HttpRequest,
  o: { readonly signal: AbortSignal },
) => HttpResponse | Promise<HttpResponse>;

/** The raw path of a target, without its query. */
export function pathOf(request: HttpRequest): string {
  const end = request.target.search(/[?#]/);
  return end < 0 ? request.target : request.target.slice(0, end);
}

export function textResponse(status: number, body: string): HttpResponse {
  return { status, headers: { "content-type": "text/plain; charset=utf-8" }, body };
}
