/** A request as far as handlers read it. */
export interface HttpRequest {
  readonly method: string;
  /** The request target as it was sent: raw path and query. */
  readonly target: string;
  /** All values of a header joined by a comma; the name in lower case. */
  header(name: string): string | undefined;
  /** Only where the listener was told to read bodies. */
  readonly body?: Uint8Array;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;
  /** The answer goes on after its headers, which are without a length then; `body` is empty. Not for HEAD. */
  readonly stream?: ((sink: StreamSink) => void) | undefined;
}

/** Where an answer that goes on is written to. */
export interface StreamSink {
  /** False: the client does not keep up, and nothing more should be written until `onDrain` has called. */
  write(text: string): boolean;
  onDrain(call: () => void): void;
  /** Ends the answer; what the client has not taken yet is dropped if it does not keep up. */
  end(): void;
  /** Aborts when the client is gone, or the listener closes. */
  readonly signal: AbortSignal;
}

/**
 * Answers a request; a rejection becomes 500 without detail. `signal` aborts when the client is gone, when time is up, and
 * once the answer is sent.
 */
export type HttpHandler = (
  request: HttpRequest,
  o: { readonly signal: AbortSignal },
) => HttpResponse | Promise<HttpResponse>;

/** The raw path of a target, without its query; of an absolute one, as proxies send it, too (RFC 9112 §3.2.2). */
export function pathOf(request: HttpRequest): string {
  const target = request.target.replace(/^https?:\/\/[^/?#]*/i, "");
  const end = target.search(/[?#]/);
  return end < 0 ? target : target.slice(0, end);
}

export function textResponse(status: number, body: string): HttpResponse {
  return { status, headers: { "content-type": "text/plain; charset=utf-8" }, body };
}
