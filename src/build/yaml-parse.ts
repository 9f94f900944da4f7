import {
  EVENT_ID,
  getScalarValue,
  parseEvents,
  SCALAR_STYLE,
  YAMLException,
  type Event,
  type MappingEvent,
  type ScalarEvent,
  type SequenceEvent,
} from "js-yaml";
import {
  isNullScalar,
  NotRepresentable,
  resolveNumber,
  resolvePlain,
  resolveTimestamp,
  type YamlDialect,
} from "./yaml-scalar.ts";
import {
  emptyMapping,
  isMapping,
  isSequence,
  type OpenMapping,
  type YamlMapping,
  type YamlValue,
} from "./yaml-value.ts";

/** Nesting allowed in a document (spec 50 §6). */
const deepest = 100;
/** How much larger than its text a document may get by aliases (spec 50 §6). */
const largestExpansion = 10;
/** Aliases in tiny documents are harmless: below this size, in characters, expansion is not bounded. */
const smallExpansion = 4_096;

/** Why a text is no YAML we take. Never quotes the text: it may be secret (spec 50 §11.2). Lines and columns start at 1. */
export class YamlProblem extends Error {
  override name = "YamlProblem";
  readonly kind: string;
  readonly line: number;
  readonly column: number;
  constructor(kind: string, { line, column }: { readonly line: number; readonly column: number }) {
    super(`${kind} at line ${line}, column ${column}`);
    this.kind = kind;
    this.line = line;
    this.column = column;
  }
}

/**
 * The documents of a YAML (or JSON) stream, empty ones as `null`. Plain scalars of the members named by `asWritten`, of
 * a document that is a mapping or of the items of one that is a list, stay the text they are written as: `1.10` is not 1.1.
 *
 * @throws {YamlProblem}
 */
export function parseYaml(
  text: string,
  dialect: YamlDialect,
  asWritten: ReadonlySet<string> = new Set(),
): readonly YamlValue[] {
  const source = text.startsWith("\ufeff") ? text.slice(1) : text;
  let events: readonly Event[];
  try {
    events = parseEvents(source, { maxDepth: deepest });
  } catch (error) {
    if (!(error instanceof YAMLException)) throw error;
    const kind = error.reason.includes("nesting") ? `nested deeper than ${deepest}` : "not valid YAML";
    throw problemAt(source, { kind, offset: error.mark?.position ?? 0 });
  }
  return new Composer(source, events, { dialect, asWritten }).documents();
}

interface Anchored {
  readonly value: YamlValue;
  /** Characters of the node, aliases expanded. */
  readonly size: number;
}

/** Builds values from events, in one walk; `size` counts what was built so far. */
class Composer {
  readonly #source: string;
  readonly #events: readonly Event[];
  readonly #dialect: YamlDialect;
  readonly #asWritten: ReadonlySet<string>;
  readonly #sizeLimit: number;
  #anchors = new Map<string, Anchored>();
  #index = 0;
  #size = 0;
  #offset = 0;
  #openMappings = 0;
  #openSequences = 0;

  constructor(
    source: string,
    events: readonly Event[],
    { dialect, asWritten }: { readonly dialect: YamlDialect; readonly asWritten: ReadonlySet<string> },
  ) {
    this.#source = source;
    this.#events = events;
    this.#dialect = dialect;
    this.#asWritten = asWritten;
    this.#sizeLimit = Math.max(smallExpansion, largestExpansion * source.length);
  }

  documents(): readonly YamlValue[] {
    const found: YamlValue[] = [];
    while (this.#index < this.#events.length) {
      this.#index++; // The document's own event.
      this.#anchors = new Map();
      const next = this.#events[this.#index];
      if (next === undefined || next.type === EVENT_ID.POP) found.push(null);
      else found.push(this.#node());
      this.#index++; // Its end.
    }
    return found;
  }

  #node(asWritten = false): YamlValue {
    const event = this.#events[this.#index++];
    switch (event?.type) {
      case EVENT_ID.SCALAR:
        return this.#keep(event, this.#size, this.#scalar(event, asWritten));
      case EVENT_ID.SEQUENCE:
        return this.#sequence(event);
      case EVENT_ID.MAPPING:
        return this.#mapping(event);
      case EVENT_ID.ALIAS:
        return this.#alias(this.#source.slice(event.anchorStart, event.anchorEnd), event.anchorStart);
      default:
        throw this.#problem("not valid YAML");
    }
  }

  #keep(event: ScalarEvent | SequenceEvent | MappingEvent, before: number, value: YamlValue): YamlValue {
    if (event.anchorStart >= 0) {
      const name = this.#source.slice(event.anchorStart, event.anchorEnd);
      this.#anchors.set(name, { value, size: this.#size - before });
    }
    return value;
  }

  #alias(name: string, offset: number): YamlValue {
    this.#offset = offset;
    const anchored = this.#anchors.get(name);
    if (anchored === undefined) throw this.#problem("an alias without its anchor");
    this.#size += anchored.size;
    if (this.#size > this.#sizeLimit)
      throw this.#problem(`aliases that expand to more than ${largestExpansion} times the text`);
    return anchored.value;
  }

  #sequence(event: SequenceEvent): YamlValue {
    const before = this.#size++;
    const items: YamlValue[] = [];
    this.#openSequences++;
    while (this.#events[this.#index]?.type !== EVENT_ID.POP) items.push(this.#node());
    this.#openSequences--;
    this.#index++;
    return this.#keep(event, before, items);
  }

  #mapping(event: MappingEvent): YamlValue {
    const before = this.#size++;
    const mapping = emptyMapping();
    const merged: YamlMapping[] = [];
    const outermost = this.#openMappings === 0 && this.#openSequences <= 1;
    this.#openMappings++;
    while (this.#events[this.#index]?.type !== EVENT_ID.POP) {
      const keyEvent = this.#events[this.#index];
      const plainKey = keyEvent?.type === EVENT_ID.SCALAR && keyEvent.style === SCALAR_STYLE.PLAIN;
      if (keyEvent?.type === EVENT_ID.SCALAR) this.#offset = keyEvent.valueStart;
      const key = this.#node();
      if (plainKey && key === "<<") {
        this.#merge(this.#node(), merged);
        continue;
      }
      const name = this.#keyText(key);
      if (name in mapping) throw this.#problem("a key given twice");
      mapping[name] = this.#node(outermost && this.#asWritten.has(name));
    }
    this.#openMappings--;
    this.#index++;
    // Own keys win over merged ones, and earlier merged mappings over later ones.
    for (const from of merged) addMissing(mapping, from);
    return this.#keep(event, before, mapping);
  }

  #merge(value: YamlValue, into: YamlMapping[]): void {
    for (const from of isSequence(value) ? value : [value]) {
      if (!isMapping(from)) throw this.#problem("a merge of something that is no mapping");
      into.push(from);
    }
  }

  #keyText(key: YamlValue): string {
    if (typeof key === "string") return key;
    // The API machinery turns such keys into text; kustomize refuses them.
    if (this.#dialect === "api" && (typeof key === "number" || typeof key === "bigint" || typeof key === "boolean"))
      return String(key);
    throw this.#problem("a key that is no text");
  }

  #scalar(event: ScalarEvent, asWritten: boolean): YamlValue {
    const text = getScalarValue(this.#source, event);
    this.#size += text.length + 1;
    if (event.tagStart < 0) {
      if (event.style !== SCALAR_STYLE.PLAIN || (asWritten && !isNullScalar(text))) return text;
      this.#offset = event.valueStart;
      return this.#plain(text);
    }
    this.#offset = event.tagStart;
    return this.#tagged(text, event);
  }

  #plain(text: string): YamlValue {
    try {
      return resolvePlain(text, this.#dialect);
    } catch (error) {
      if (error instanceof NotRepresentable) throw this.#problem("a number JSON cannot hold");
      throw error;
    }
  }

  #tagged(text: string, event: ScalarEvent): YamlValue {
    const spelled = this.#source.slice(event.tagStart, event.tagEnd);
    const tag = spelled.replace(/^!<tag:yaml\.org,2002:(.*)>$/, "!!$1");
    switch (tag) {
      case "!!int":
      case "!!float": {
        const value = resolveNumber(text);
        if (value === undefined) throw this.#problem(`${tag} on something else`);
        return value;
      }
      case "!!bool":
      case "!!null": {
        const value = this.#plain(text);
        if (tag === "!!bool" ? typeof value !== "boolean" : value !== null)
          throw this.#problem(`${tag} on something else`);
        return value;
      }
      case "!!binary":
        return this.#binary(text);
      case "!!timestamp":
        return this.#dialect === "kustomize" ? (resolveTimestamp(text) ?? text) : text;
      default:
        return text;
    }
  }

  #binary(text: string): string {
    const compact = text.replace(/\s/g, "");
    if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(compact))
      throw this.#problem("!!binary on something else");
    return Buffer.from(compact, "base64").toString("utf8");
  }

  #problem(kind: string): YamlProblem {
    return problemAt(this.#source, { kind, offset: this.#offset });
  }
}

function addMissing(mapping: OpenMapping, from: YamlMapping): void {
  for (const key of Object.keys(from)) {
    const value = from[key];
    if (!(key in mapping) && value !== undefined) mapping[key] = value;
  }
}

function problemAt(source: string, { kind, offset }: { readonly kind: string; readonly offset: number }): YamlProblem {
  const before = source.slice(0, Math.max(0, offset));
  const line = before.split("\n").length;
  return new YamlProblem(kind, { line, column: before.length - before.lastIndexOf("\n") });
}
