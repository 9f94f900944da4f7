import type { StageSetSpec } from "../../api/stage-set.ts";
import { actionFindings } from "./actions.ts";
import type { Finding, ValidationContext } from "./finding.ts";
import { metricFindings } from "./metrics.ts";
import { promotionFindings } from "./promotion.ts";
import { referenceFindings } from "./references.ts";
import { stageFindings } from "./stages.ts";
import { timeFindings } from "./times.ts";
import { versionFindings } from "./versions.ts";

/**
 * Everything the rules of spec 10 §12 find in a spec that fits the schema, in a stable order. V3 is about the name
 * (`nameLengthFindings`); V2's syntax, V20 and V31 are the schema's. CEL expressions (V13, V28) are compiled elsewhere.
 */
export function validateStageSet(spec: StageSetSpec, context: ValidationContext): readonly Finding[] {
  return [
    ...stageFindings(spec),
    ...timeFindings(spec, context.now),
    ...referenceFindings(spec, context),
    ...actionFindings(spec, context),
    ...versionFindings(spec),
    ...metricFindings(spec, context),
    ...promotionFindings(spec),
  ];
}
