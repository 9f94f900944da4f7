import { EnvHttpProxyAgent, request as send } from "undici";
import { deadline } from "../lib/abort.ts";
import type { Clock } from "../lib/clock.ts";
import { OutboundError } from "./outbound-error.ts";

const timeoutMs = 30_000;
const maxAnswerBytes = 1024 * 1024;

/** One request to the API of a cloud, through the proxy of the environment if there is one (spec 60 §1). */
export interface CloudCaller extends AsyncDisposable {
  /**
   * The answer, whatever its status. Redirects are not followed.
   *
   * @throws {OutboundError} `TimedOut`, `Unreachable`
   */
  call(
    request: {
      readonly method: "GET" | "POST";
      readonly url: URL;
      readonly headers: Readonly<Record<string, string>>;
      readonly body?: string;
    },
    o: { readonly signal: AbortSignal },
  ): Promise<{ readonly status: number; readonly text: string }>;
}

/** Opens nothing until the first call. Only hosts of the clouds, or those the operator names, may be called. */
export function createCloudCaller({
  clock,
  env,
}: {
  readonly clock: Clock;
  readonly env: Readonly<Record<string, string | undefined>>;
}): CloudCaller {
  let agent: EnvHttpProxyAgent | undefined;
  return {
    async call({ method, url, headers, body }, { signal }) {
      agent ??= new EnvHttpProxyAgent({
        ...(env["HTTPS_PROXY"] === undefined ? {} : { httpsProxy: env["HTTPS_PROXY"] }),
        ...(env["NO_PROXY"] === undefined ? {} : { noProxy: env["NO_PROXY"] }),
        connect: { timeout: 10_000 },
        maxResponseSize: maxAnswerBytes,
      });
      using limit = deadline(clock, { timeoutMs, what: `a call to "${url.host}"`, parent: signal });
      try {
        const given = body === undefined ? {} : { body };
        const answer = await send(url, { method, headers, ...given, dispatcher: agent, signal: limit.signal });
        return { status: answer.statusCode, text: await answer.body.text() };
      } catch (error) {
        if (signal.aborted) throw error;
        const reason = limit.signal.aborted ? "TimedOut" : "Unreachable";
        throw new OutboundError(reason, `"${url.host}" cannot be reached`, { cause: error });
      }
    },
    async [Symbol.asyncDispose]() {
      await agent?.destroy();
    },
  };
}
