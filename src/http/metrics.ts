import { pathOf, textResponse, type HttpHandler } from "./message.ts";

/** Everything the process measures, rendered when asked. */
export interface MetricsPage {
  render(format: "prometheus" | "openmetrics"): Promise<{ readonly contentType: string; readonly body: string }>;
}

/** `GET /metrics` (spec 60 §3). */
export function createMetricsHandler(page: MetricsPage): HttpHandler {
  return async (request) => {
    if (pathOf(request) !== "/metrics") return textResponse(404, "only /metrics is served\n");
    if (request.method !== "GET" && request.method !== "HEAD") return textResponse(405, "only GET\n");
    const open = (request.header("accept") ?? "").includes("application/openmetrics-text");
    const { contentType, body } = await page.render(open ? "openmetrics" : "prometheus");
    return { status: 200, headers: { "content-type": contentType }, body };
  };
}
