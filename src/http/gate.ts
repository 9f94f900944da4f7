import type { StageReadiness } from "../domain/stage-readiness.ts";
import type { Counter, Logger } from "../lib/telemetry.ts";
import { dialectOf } from "./accept.ts";
import { pathOf, type HttpHandler, type HttpResponse } from "./message.ts";

/** A stage as a path names it. */
export interface StageName {
  readonly namespace: string;
  readonly stageSet: string;
  readonly stage: string;
}

/** What a replica knows of stages; an open answer is only ever given on a read that began after the request. */
export interface StageView {
  /**
   * The answer, confirmed by live reads unless the caches say it is closed. `undetermined`: it cannot be known now.
   */
  readiness(name: StageName, o: { readonly signal: AbortSignal }): Promise<StageReadiness | "undetermined">;
}

const methods = new Set(["GET", "HEAD", "POST"]);
/** On every answer of the gate's listener (spec 40 §8.3). */
export const gateHeaders = {
  "cache-control": "no-store",
  vary: "Accept",
  "x-content-type-options": "nosniff",
} as const;
/** Undetermined answers are logged at most this often. */
const warnEveryMs = 60_000;

/** Answers `/gate/{namespace}/{stageset}/{stage}` as spec 40 §8 says. Never redirects, never says why beyond a reason. */
export function createGate(options: {
  readonly view: StageView;
  readonly requests: Counter;
  readonly logger: Logger;
  readonly clock: { monotonic(): number };
}): HttpHandler {
  let warnedAt = -Infinity;
  const count = (dialect: string, response: HttpResponse, reason: string): HttpResponse => {
    options.requests.add({ dialect, code: String(response.status), reason });
    return response;
  };
  return async (request, { signal }) => {
    const dialect = dialectOf(request.header("accept"));
    const parsed = parsePath(pathOf(request));
    if (parsed.kind !== "stage") return count(dialect, refusal(dialect, parsed), parsed.reason);
    if (!methods.has(request.method)) {
      const error = { status: 405, reason: "MethodNotAllowed", error: "only GET, HEAD and POST are answered" };
      const response = refusal(dialect, { kind: "error", ...error }, { allow: "GET, HEAD, POST" });
      return count(dialect, response, error.reason);
    }
    const answer = await options.view.readiness(parsed.name, { signal });
    if (answer === "undetermined") {
      if (options.clock.monotonic() - warnedAt >= warnEveryMs) {
        warnedAt = options.clock.monotonic();
        options.logger.warn("gate answer is undetermined", { ...parsed.name });
      }
      return count(dialect, undetermined(dialect, parsed.name), "Undetermined");
    }
    const reason = answer.kind === "ready" ? "Ready" : answer.reason;
    options.logger.debug("gate answered", { ...parsed.name, reason });
    return count(dialect, determined(dialect, parsed.name, answer), reason);
  };
}

type ParsedPath =
  | { readonly kind: "stage"; readonly name: StageName }
  | { readonly kind: "error"; readonly status: number; readonly reason: string; readonly error: string };

/** The raw path is split first and each segment decoded once, so an escaped slash names nothing. */
function parsePath(path: string): ParsedPath {
  if (!path.startsWith("/gate/"))
    return {
      kind: "error",
      status: 404,
      reason: "UnknownPath",
      error: "only /gate/{namespace}/{stageset}/{stage} is served",
    };
  const segments = path.slice("/gate/".length).split("/");
  if (segments.length === 4 && segments[3] === "") segments.pop();
  const [namespace, stageSet, stage] = segments.map(decodeSegment);
  if (segments.length !== 3 || !namespace || !stageSet || !stage)
    return { kind: "error", status: 400, reason: "BadPath", error: "the path is /gate/{namespace}/{stageset}/{stage}" };
  return { kind: "stage", name: { namespace, stageSet, stage } };
}

function decodeSegment(segment: string): string | undefined {
  try {
    return decodeURIComponent(segment);
  } catch {
    return undefined;
  }
}

type Dialect = "text" | "json";

function determined(dialect: Dialect, name: StageName, answer: StageReadiness): HttpResponse {
  const ready = answer.kind === "ready";
  const reason = answer.kind === "ready" ? "Ready" : answer.reason;
  if (dialect === "json")
    return json(200, {
      ready,
      namespace: name.namespace,
      stageset: name.stageSet,
      stage: name.stage,
      ...(answer.phase === undefined ? {} : { phase: answer.phase }),
      ...(answer.revision === undefined ? {} : { revision: answer.revision }),
      reason,
    });
  const stage = `stage ${name.namespace}/${name.stageSet}/${name.stage}`;
  return ready
    ? text(200, `${stage} is Ready at ${answer.revision ?? ""}`)
    : text(403, `${stage} is not ready: ${answer.phase === undefined ? "" : `${answer.phase}, `}${reason}`);
}

function undetermined(dialect: Dialect, name: StageName): HttpResponse {
  const headers = { "retry-after": "1" };
  const error = "the answer cannot be determined now";
  return dialect === "json"
    ? json(
        503,
        {
          ready: false,
          namespace: name.namespace,
          stageset: name.stageSet,
          stage: name.stage,
          reason: "Undetermined",
          error,
        },
        headers,
      )
    : text(503, `Undetermined: ${error}`, headers);
}

function refusal(
  dialect: Dialect,
  problem: Extract<ParsedPath, { kind: "error" }>,
  headers: Readonly<Record<string, string>> = {},
): HttpResponse {
  return dialect === "json"
    ? json(problem.status, { ready: false, error: problem.error }, headers)
    : text(problem.status, problem.error, headers);
}

function json(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): HttpResponse {
  return {
    status,
    headers: { ...gateHeaders, ...headers, "content-type": "application/json; charset=utf-8" },
    body: `${JSON.stringify(body)}\n`,
  };
}

/** One line below 512 bytes in which everything but printable ASCII is escaped. */
function text(status: number, line: string, headers: Readonly<Record<string, string>> = {}): HttpResponse {
  const escaped = line.replace(/[^\x20-\x7e]/gu, (char) => `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`);
  const body = escaped.length > 500 ? `${escaped.slice(0, 497)}...` : escaped;
  return {
    status,
    headers: { ...gateHeaders, ...headers, "content-type": "text/plain; charset=utf-8" },
    body: `${body}\n`,
  };
}
