import { asArray, asObject } from "../../lib/json.ts";
import { parseDecimal } from "../formats/decimal.ts";
import { selectNumber } from "../formats/json-path-select.ts";
import { parseJsonPath } from "../formats/json-path.ts";
import type { MetricRequest } from "./metric-request.ts";

/** Bound of how deep the JSON of an answer is nested (spec 40 §11). */
const deepestJson = 100;

/** What a metric source came to: one finite number, or in words why there is none, without tokens, bodies and values. */
export type MetricAnswer =
  { readonly kind: "value"; readonly value: number } | { readonly kind: "sourceError"; readonly problem: string };

export function sourceError(problem: string): MetricAnswer {
  return { kind: "sourceError", problem };
}

/** Reads the number out of the body of an answer of status 2xx. */
export function readMetricAnswer(body: string, reads: MetricRequest["reads"]): MetricAnswer {
  if (isDeeplyNested(body)) return sourceError(`the answer is nested deeper than ${deepestJson}`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return sourceError("the answer is not JSON");
  }
  return reads.kind === "prometheus" ? prometheusAnswer(parsed) : webhookAnswer(parsed, reads.jsonPath);
}

/** The answer of Prometheus' `/api/v1/query` (prometheus.io/docs/prometheus/latest/querying/api). */
function prometheusAnswer(answer: unknown): MetricAnswer {
  const { status, data } = asObject(answer) ?? {};
  if (status !== "success") return sourceError('the answer of Prometheus does not have status "success"');
  const { resultType, result } = asObject(data) ?? {};
  if (resultType === "scalar") return sampleValue(result);
  if (resultType !== "vector")
    return sourceError("the query does not yield a scalar or an instant vector: want one number");
  const samples = asArray(result);
  if (samples.length !== 1) return sourceError(`the query yields ${samples.length} samples, want one`);
  const { value } = asObject(samples[0]) ?? {};
  return value === undefined ? sourceError("the sample is a histogram, want a number") : sampleValue(value);
}

/** `[<seconds>, "<number>"]`. */
function sampleValue(sample: unknown): MetricAnswer {
  const [, text] = asArray(sample);
  if (typeof text !== "string") return sourceError("the sample has no value");
  const value = parseDecimal(text);
  return value === undefined ? sourceError("the value is not a finite number") : { kind: "value", value };
}

function webhookAnswer(answer: unknown, jsonPath: string): MetricAnswer {
  const parsed = parseJsonPath(jsonPath);
  if (parsed.kind === "malformed") return sourceError(`jsonPath is not a JSONPath: ${parsed.problem}`);
  const selected = selectNumber(parsed.path, answer);
  if (selected.kind === "unselected") return sourceError(`jsonPath selects no number: ${selected.problem}`);
  return { kind: "value", value: selected.value };
}

/** Told from the text, before anything is built of it. Of a text that is no JSON any answer will do. */
function isDeeplyNested(text: string): boolean {
  let depth = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === "\\") at++;
    else if (character === '"') quoted = !quoted;
    else if (quoted) continue;
    else if (character === "[" || character === "{") depth++;
    else if (character === "]" || character === "}") depth--;
    if (depth > deepestJson) return true;
  }
  return false;
}
