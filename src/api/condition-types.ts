/** Types of status conditions. */
export const readyCondition = "Ready";
/** kstatus: present and True while the controller is on its way. */
export const reconcilingCondition = "Reconciling";
/** kstatus: present and True when somebody must act. */
export const stalledCondition = "Stalled";
/** On StageLedger, spec 10 §8. */
export const baselineValidCondition = "BaselineValid";
/** On a source: its content was verified by the source controller. */
export const sourceVerifiedCondition = "SourceVerified";

export type ConditionStatus = "True" | "False" | "Unknown";
