import { noSpan, type Span, type SpanAttributes } from "../lib/telemetry.ts";

/** Where spans begin. Disposing flushes what is not sent yet, for at most 5 s (spec 60 §1). */
export interface Tracer extends AsyncDisposable {
  start(name: string, attributes: SpanAttributes): Span;
  /** The header of the span whose work is under way (W3C Trace Context); undefined outside a kept trace. */
  traceparent(): string | undefined;
}

export const noTracer: Tracer = {
  start: () => noSpan,
  traceparent: () => undefined,
  [Symbol.asyncDispose]: () => Promise.resolve(),
};
