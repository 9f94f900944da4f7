import { AsyncLocalStorage } from "node:async_hooks";
import * as tls from "node:tls";
import * as grpc from "@grpc/grpc-js";
import * as api from "@opentelemetry/api";
import * as otlp from "@opentelemetry/exporter-trace-otlp-grpc";
import * as resources from "@opentelemetry/resources";
import * as sdk from "@opentelemetry/sdk-trace";
import type { Clock } from "../lib/clock.ts";
import { noSpan, type Logger, type Span, type SpanAttributes } from "../lib/telemetry.ts";
import type { Tracer } from "./tracer.ts";

export interface TracerOptions {
  /** `host:port` of an OTLP/gRPC collector. */
  readonly endpoint: string;
  readonly transport: "tls" | "plaintext";
  /** Share of traces that are kept, 0 to 1. */
  readonly sampleRatio: number;
  /** Who vouches for the collector: the system's store, or the file the environment names for OTLP exporters. */
  readonly trust: "system" | "environment";
  readonly version: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

const flushMs = 5_000;
/** Spans that wait for the collector; more are dropped, and no pass waits. */
const mostWaiting = 2_048;

/**
 * Sends spans in batches. A collector that is slow or away costs spans, never time. The
 * exporter itself reads `OTEL_EXPORTER_OTLP_HEADERS`, `_CERTIFICATE` and `_TIMEOUT`.
 */
export function createTracer(options: TracerOptions): Tracer {
  const plaintext = options.transport === "plaintext";
  const roots = [...tls.getCACertificates("system"), ...tls.getCACertificates("default")].join("\n");
  const exporter = new otlp.OTLPTraceExporter({
    url: `${plaintext ? "http" : "https"}://${options.endpoint}`,
    ...(plaintext
      ? { credentials: grpc.credentials.createInsecure() }
      : options.trust === "system"
        ? { credentials: grpc.credentials.createSsl(Buffer.from(roots)) }
        : {}),
  });
  const provider = new sdk.TracerProvider({
    sampler: new sdk.TraceIdRatioBasedSampler(options.sampleRatio),
    resource: resources
      .detectResources({ detectors: [resources.resourceAttributesEnvDetector] })
      .merge(
        resources.resourceFromAttributes({ "service.name": "stageset-controller", "service.version": options.version }),
      ),
    spanProcessors: [new sdk.BatchSpanProcessor({ exporter, maxQueueSize: mostWaiting, scheduledDelayMillis: 1_000 })],
  });
  const tracer = provider.getTracer("stageset-controller", options.version);
  const working = new AsyncLocalStorage<string>();

  const begin = (name: string, attributes: SpanAttributes, context: typeof api.ROOT_CONTEXT): Span => {
    const span = tracer.startSpan(name, { attributes }, context);
    const { traceId, spanId, traceFlags } = span.spanContext();
    const kept = (traceFlags & api.TraceFlags.SAMPLED) !== 0;
    // What is not kept has no parts either.
    if (!kept) return noSpan;
    const inside = api.trace.setSpan(context, span);
    const header = `00-${traceId}-${spanId}-01`;
    return {
      traceId,
      start: (child, childAttributes = {}) => begin(child, childAttributes, inside),
      set: (more) => void span.setAttributes({ ...more }),
      fail(message) {
        span.recordException({ name: "Error", message });
        span.setStatus({ code: api.SpanStatusCode.ERROR, message });
      },
      end: () => span.end(),
      run: (work) => working.run(header, work),
    };
  };
  return {
    start: (name, attributes) => begin(name, attributes, api.ROOT_CONTEXT),
    traceparent: () => working.getStore(),
    async [Symbol.asyncDispose]() {
      const late = Promise.withResolvers<undefined>();
      using _limit = options.clock.timer(flushMs, () => late.resolve(undefined));
      await Promise.race([
        provider.shutdown().catch((error: unknown) => options.logger.warn("traces were lost at the end", { error })),
        late.promise,
      ]);
    },
  };
}
