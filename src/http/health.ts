import { pathOf, textResponse, type HttpHandler, type HttpResponse } from "./message.ts";

/** One thing readiness depends on, by the name under which it is reported. */
export interface HealthCheck {
  readonly name: string;
  readonly isHealthy: () => boolean;
}

/**
 * `/healthz` and `/readyz`, with `/<check>`, `?verbose` and `?exclude=` (spec 60 §3). A failing check is named, never
 * explained: probes are open to anyone.
 */
export function createHealth(checks: {
  readonly live: readonly HealthCheck[];
  readonly ready: readonly HealthCheck[];
}): HttpHandler {
  return (request) => {
    const path = pathOf(request);
    const query = new URLSearchParams(request.target.slice(path.length).replace(/^\?/, ""));
    const [, root = "", name, ...more] = path.split("/");
    if (more.length > 0 || (root !== "healthz" && root !== "readyz")) return textResponse(404, "not found\n");
    if (request.method !== "GET" && request.method !== "HEAD") return textResponse(405, "only GET\n");
    const all = root === "healthz" ? checks.live : checks.ready;
    if (name === undefined || name === "") return report(root, all, query);
    const check = all.find((each) => each.name === name);
    if (check === undefined) return textResponse(404, `no check "${name}"\n`);
    return check.isHealthy() ? textResponse(200, "ok") : textResponse(500, `[-]${name} failed\n`);
  };
}

function report(root: string, all: readonly HealthCheck[], query: URLSearchParams): HttpResponse {
  const excluded = new Set(query.getAll("exclude"));
  const results = all
    .filter((check) => !excluded.has(check.name))
    .map((check) => ({ name: check.name, healthy: check.isHealthy() }));
  const failed = results.some((result) => !result.healthy);
  if (!failed && !query.has("verbose")) return textResponse(200, "ok");
  const shown = failed && !query.has("verbose") ? results.filter((result) => !result.healthy) : results;
  const lines = shown.map(({ name, healthy }) => (healthy ? `[+]${name} ok` : `[-]${name} failed`));
  return textResponse(failed ? 500 : 200, `${lines.join("\n")}\n${root} check ${failed ? "failed" : "passed"}\n`);
}
