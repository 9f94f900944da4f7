import { traced, type Span, type SpanAttributes } from "../lib/telemetry.ts";
import type { Engine, Reports } from "./engine.ts";
import type { Pass } from "./pass.ts";

/** A part of a pass, measured as `stageset_stage_phase_seconds` and shown as a span (spec 60 §6, §9). */
export interface Phase {
  readonly span: string;
  /** Undefined: only a span. */
  readonly measuredAs?: Parameters<Reports["phase"]>[0] | undefined;
  readonly attributes: SpanAttributes;
}

/** Does `work` as a phase of the pass. What it answers may say, by `span.fail`, that it has failed. */
export async function inPhase<T>(
  engine: Engine,
  pass: Pass,
  phase: Phase,
  work: (span: Span) => Promise<T>,
): Promise<T> {
  const started = engine.clock.monotonic();
  try {
    return await traced(pass.span.start(phase.span, phase.attributes), work);
  } finally {
    if (phase.measuredAs !== undefined)
      engine.reports.phase(phase.measuredAs, (engine.clock.monotonic() - started) / 1_000);
  }
}
