/** What a rule of spec 10 §12 has found. `deny` makes the spec invalid, `warn` never does. */
export interface Finding {
  readonly rule: `V${number}`;
  /** Field path, as in `spec.stages[2].actions.pre[0]`. */
  readonly path: string;
  /** Names of what the path goes through, as in `stage "web", action "warm"`; empty at the top. */
  readonly subject: string;
  /** What is wrong with the value and what is accepted; reads on after the path. */
  readonly message: string;
  readonly severity: "deny" | "warn";
}

/** What rules need to know beside the spec. */
export interface ValidationContext {
  readonly namespace: string;
  readonly name: string;
  readonly crossNamespace: "allowed" | "refused";
  readonly allowLoopback: boolean;
  /** Whether `--allowed-action-hosts` lets a host pass; undefined when it is empty and every host does. */
  readonly isAllowedHost?: (host: string) => boolean;
  /** Epoch ms; undefined: nothing is said about what is over by now. */
  readonly now?: number;
}

/** A member of the spec with the names on the way to it. */
export interface Place {
  readonly path: string;
  readonly subject: string;
}

export const root: Place = { path: "spec", subject: "" };

/**
 * A member of a place; `subject` is added when the member has a name. A path that ends in a space is a heading, as
 * `ladder.yaml: ` of which the file is the object.
 */
export function inside(place: Place, member: string, subject = ""): Place {
  const joint = member.startsWith("[") || place.path.endsWith(" ") ? "" : ".";
  const path = `${place.path}${joint}${member}`;
  return { path, subject: [place.subject, subject].filter((part) => part !== "").join(", ") };
}

export function deny(rule: Finding["rule"], { path, subject }: Place, message: string): Finding {
  return { rule, path, subject, message, severity: "deny" };
}

export function warn(rule: Finding["rule"], { path, subject }: Place, message: string): Finding {
  return { rule, path, subject, message, severity: "warn" };
}

/** One line: path, names, message. */
export function renderFinding({ path, subject, message }: Pick<Finding, "path" | "subject" | "message">): string {
  return subject === "" ? `${path} ${message}` : `${path} (${subject}) ${message}`;
}

const longestQuote = 100;

/** A text of the spec as messages show it: quoted, at most 100 characters. */
export function quote(text: string): string {
  return JSON.stringify(text.length > longestQuote ? `${text.slice(0, longestQuote)}…` : text);
}

/** A URL as messages show it: what may be secret in it, user information and query, is left out. */
export function quoteUrl(text: string): string {
  return quote(text.replace(/^([^/?#]*\/\/)?[^/?#]*@/, "$1…@").replace(/[?#].*$/s, "?…"));
}

/** Finds names that are empty or used more than once; every use after the first is named. */
export function* nameFindings(
  rule: Finding["rule"],
  names: Iterable<readonly [place: Place, name: string]>,
): Generator<Finding> {
  const first = new Map<string, Place>();
  for (const [place, name] of names) {
    const before = first.get(name);
    if (name === "") yield deny(rule, place, "is empty, want a name");
    else if (before !== undefined)
      yield deny(rule, place, `is ${quote(name)}, which ${before.path} is too, want unique names`);
    else first.set(name, place);
  }
}

/** The members that are set. */
export function setMembers<Key extends string>(
  object: Readonly<Partial<Record<Key, unknown>>>,
  keys: readonly Key[],
): readonly Key[] {
  return keys.filter((key) => object[key] !== undefined);
}

/** `has none of a and b`, `has a and b`; undefined when exactly one is set. */
export function exactlyOneProblem<Key extends string>(
  object: Readonly<Partial<Record<Key, unknown>>>,
  keys: readonly Key[],
): string | undefined {
  const present = setMembers(object, keys);
  if (present.length === 1) return undefined;
  const wanted = `want exactly one of ${keys.join(", ")}`;
  return present.length === 0 ? `sets none, ${wanted}` : `sets ${present.length}: ${present.join(", ")}, ${wanted}`;
}
