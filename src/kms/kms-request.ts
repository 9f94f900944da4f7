import { SopsProblem } from "../build/sops/sops-problem.ts";
import { deadline, DeadlineExceeded } from "../lib/abort.ts";
import type { Clock } from "../lib/clock.ts";
import { asText, at } from "../lib/json.ts";
import type { GuardedFetch } from "../outbound/guard.ts";
import { OutboundError } from "../outbound/outbound-error.ts";

/** Longest a service may take, and say (spec 50 §5). */
const timeoutMs = 30_000;
const mostBytes = 1024 * 1024;

/** How services are asked: with the outbound guard, without redirects. */
export interface KmsTransport {
  readonly fetch: GuardedFetch;
  readonly clock: Clock;
  /** Hosts that did not answer in time: they are not asked again. */
  readonly silent?: Set<string> | undefined;
}

export interface KmsRequest {
  /** For messages. */
  readonly service: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/**
 * The text of a service's answer.
 *
 * @throws {SopsProblem} `KMS denied`, `KMS unavailable`; what a service says is not part of it
 * @throws the signal's reason, when aborted
 */
export async function askService(
  { fetch, clock, silent }: KmsTransport,
  o: KmsRequest,
  signal: AbortSignal,
): Promise<string> {
  const host = URL.parse(o.url)?.hostname ?? "";
  if (silent?.has(host) === true)
    throw new SopsProblem("KMS unavailable", `${o.service} is at a host that did not answer in time before`);
  using limit = deadline(clock, { timeoutMs, what: `asking ${o.service}`, parent: signal });
  try {
    const request = { method: "POST", body: o.body, headers: o.headers, acceptsRedirect: () => true } as const;
    await using response = await fetch(o.url, { signal: limit.signal, request });
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of response.body) {
      bytes += chunk.byteLength;
      if (bytes > mostBytes) throw new SopsProblem("KMS unavailable", `${o.service} answered with more than 1 MiB`);
      chunks.push(chunk);
    }
    const text = Buffer.concat(chunks).toString("utf8");
    if (response.status === 200) return text;
    throw refusal(o.service, response.status, text);
  } catch (error) {
    if (signal.aborted || error instanceof SopsProblem) throw error;
    const timedOut =
      error instanceof DeadlineExceeded || (error instanceof OutboundError && error.reason === "TimedOut");
    if (timedOut) silent?.add(host);
    if (error instanceof OutboundError) {
      const problem = error.reason === "Refused" ? "KMS denied" : "KMS unavailable";
      throw new SopsProblem(problem, `cannot ask ${o.service}: ${error.message}`, { cause: error });
    }
    if (error instanceof DeadlineExceeded)
      throw new SopsProblem("KMS unavailable", `${o.service} did not answer in time`, { cause: error });
    throw error;
  }
}

function refusal(service: string, status: number, text: string): SopsProblem {
  // AWS tells of throttling with 400.
  const throttled = /Throttl|TooManyRequests|LimitExceeded|SlowDown/.test(text.slice(0, 2_000));
  const later = status === 408 || status === 429 || status >= 500 || throttled;
  return new SopsProblem(later ? "KMS unavailable" : "KMS denied", `${service} answered with status ${status}`);
}

/** A member of a JSON answer. @throws {SopsProblem} `KMS unavailable` */
export function answeredText(service: string, text: string, ...path: readonly string[]): string {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    throw new SopsProblem("KMS unavailable", `${service} answered with something that is no JSON`);
  }
  const value = asText(at(answer, ...path));
  if (value === undefined) throw new SopsProblem("KMS unavailable", `${service} answered without ${path.join(".")}`);
  return value;
}
