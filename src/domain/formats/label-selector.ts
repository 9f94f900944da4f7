import type { LabelSelector } from "../../api/stage-set.ts";

/** What is wrong with a selector; the path is relative to it (`matchExpressions[0].operator`). */
export interface SelectorProblem {
  readonly path: string;
  readonly message: string;
}

const name = /^[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const subdomain = /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/;

/** Whether the text can be a label's key: a name of at most 63 characters, and before it maybe a DNS name and `/`. */
export function isLabelKey(text: string): boolean {
  const slash = text.indexOf("/");
  if (slash < 0) return name.test(text);
  return slash <= 253 && subdomain.test(text.slice(0, slash)) && name.test(text.slice(slash + 1));
}

/** Whether the text can be a label's value: empty, or a name of at most 63 characters. */
export function isLabelValue(text: string): boolean {
  return text === "" || name.test(text);
}

/** Whether the selector has no requirement, and so selects everything. */
export function selectsEverything(selector: LabelSelector): boolean {
  return Object.keys(selector.matchLabels ?? {}).length === 0 && (selector.matchExpressions ?? []).length === 0;
}

/** Everything the API server would refuse about the selector. */
export function selectorProblems(selector: LabelSelector): readonly SelectorProblem[] {
  const problems: SelectorProblem[] = [];
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    if (!isLabelKey(key))
      problems.push({ path: "matchLabels", message: `has the key ${shown(key)}, want a label key` });
    if (!isLabelValue(value))
      problems.push({ path: "matchLabels", message: `has the value ${shown(value)}, want a label value` });
  }
  for (const [index, { key, operator, values = [] }] of (selector.matchExpressions ?? []).entries()) {
    const path = `matchExpressions[${index}]`;
    if (!isLabelKey(key)) problems.push({ path: `${path}.key`, message: `is ${shown(key)}, want a label key` });
    const takesValues = operator === "In" || operator === "NotIn";
    if (!takesValues && operator !== "Exists" && operator !== "DoesNotExist") {
      const wanted = `want "In", "NotIn", "Exists" or "DoesNotExist"`;
      problems.push({ path: `${path}.operator`, message: `is ${shown(operator)}, ${wanted}` });
    } else if (takesValues !== values.length > 0) {
      const wanted = takesValues ? "want at least one" : "want none";
      problems.push({ path: `${path}.values`, message: `has ${values.length} values with ${operator}, ${wanted}` });
    }
    for (const value of values.filter((one) => !isLabelValue(one)))
      problems.push({ path: `${path}.values`, message: `has ${shown(value)}, want a label value` });
  }
  return problems;
}

/** The selector as a query parameter of the API server spells it; of one without problems. */
export function selectorText({ matchLabels = {}, matchExpressions = [] }: LabelSelector): string {
  const labels = Object.entries(matchLabels).map(([key, value]) => `${key}=${value}`);
  const expressions = matchExpressions.map(({ key, operator, values = [] }) => {
    if (operator === "Exists") return key;
    if (operator === "DoesNotExist") return `!${key}`;
    return `${key} ${operator === "NotIn" ? "notin" : "in"} (${values.join(",")})`;
  });
  return [...labels, ...expressions].join(",");
}

/** Whether the labels fulfil every requirement; an operator that is not known fulfils none. */
export function matchesLabels(selector: LabelSelector, labels: Readonly<Record<string, string>>): boolean {
  const label = (key: string): string | undefined => (Object.hasOwn(labels, key) ? labels[key] : undefined);
  return (
    Object.entries(selector.matchLabels ?? {}).every(([key, value]) => label(key) === value) &&
    (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
      const value = label(key);
      switch (operator) {
        case "In":
          return value !== undefined && values.includes(value);
        case "NotIn":
          return value === undefined || !values.includes(value);
        case "Exists":
          return value !== undefined;
        case "DoesNotExist":
          return value === undefined;
        default:
          return false;
      }
    })
  );
}

function shown(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
}
