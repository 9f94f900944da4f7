import {
  COLLECTION_STYLE,
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
import { NotRepresentable, resolvePlain } from "../yaml-scalar.ts";
import { renderGoFloat } from "./go-number.ts";
import { malformed } from "./sops-problem.ts";
import type { SopsComment, SopsMapping, SopsMember, SopsNode, SopsScalar } from "./sops-tree.ts";
import { textValue, type SopsValue } from "./sops-value.ts";

/** Nesting allowed in a document (spec 50 §6). */
const deepest = 100;

/** Where something stands in the text. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** How a leaf is written, for what is put in its place. */
export interface WrittenAt extends Span {
  /** Inside `{}` or `[]`: another scalar must be quoted. */
  readonly flow: boolean;
  /** Of a comment: whether it has its line for itself. */
  readonly comment: "line" | "inline" | undefined;
  /** An item, not the value of a key. */
  readonly inSequence: boolean;
  /** Where lines of a block scalar in this place begin. */
  readonly indent: number;
}

/** One document of a YAML or JSON text. */
export interface YamlDocument {
  /** Without its metadata. */
  readonly branch: SopsMapping;
  readonly written: ReadonlyMap<SopsScalar | SopsComment, WrittenAt>;
  /** The member `sops`: its value as plain data, and what to remove with it. */
  readonly metadata: { readonly value: unknown; readonly span: Span } | undefined;
  /** All that is left without metadata is an empty mapping in block style. */
  readonly isEmptyBlock: boolean;
}

/**
 * The documents of a YAML or JSON text with the place of each value, so that only values need be replaced and all else
 * stays as SOPS wrote it. Aliases, which SOPS never writes, are refused: what they stand for could be decrypted twice.
 *
 * @throws {SopsProblem} `malformed`
 */
export function parseYamlDocuments(text: string): readonly YamlDocument[] {
  let events: readonly Event[];
  try {
    events = parseEvents(text, { maxDepth: deepest });
  } catch (cause) {
    if (cause instanceof YAMLException) throw malformed("it is not valid YAML");
    throw cause;
  }
  return new Composer(text, events).documents();
}

type Item = SopsMember | SopsNode | SopsComment;

interface Open {
  readonly items: Item[];
  readonly column: number;
  readonly flow: boolean;
}

class Composer {
  readonly #text: string;
  readonly #events: readonly Event[];
  #index = 0;
  /** What came before is read. */
  #from = 0;
  #written = new Map<SopsScalar | SopsComment, WrittenAt>();
  /** Comments found that belong to a collection not known yet. */
  #waiting: { readonly comment: SopsComment; readonly column: number }[] = [];

  constructor(text: string, events: readonly Event[]) {
    this.#text = text;
    this.#events = events;
  }

  documents(): readonly YamlDocument[] {
    const found: YamlDocument[] = [];
    while (this.#index < this.#events.length) {
      this.#index++;
      found.push(this.#document());
      this.#index++;
    }
    return found;
  }

  #document(): YamlDocument {
    this.#written = new Map();
    const event = this.#events[this.#index];
    const empty = { kind: "mapping", items: [] } as const;
    if (event === undefined || event.type === EVENT_ID.POP || this.#isNull(event)) {
      if (event?.type === EVENT_ID.SCALAR) this.#index++;
      return { branch: empty, written: this.#written, metadata: undefined, isEmptyBlock: false };
    }
    if (event.type !== EVENT_ID.MAPPING) throw malformed("a document is no mapping");
    this.#index++;
    return this.#root(event);
  }

  #isNull(event: Event): boolean {
    return event.type === EVENT_ID.SCALAR && event.style === SCALAR_STYLE.PLAIN && this.#scalarText(event) === "";
  }

  #root(event: MappingEvent): YamlDocument {
    const flow = event.style === COLLECTION_STYLE.FLOW;
    let metadata: YamlDocument["metadata"];
    let previousEnd = flow ? event.start + 1 : event.start;
    let afterMetadata: number | undefined;
    const branch = this.#mapping(event, (member, span) => {
      if (afterMetadata !== undefined && metadata !== undefined) {
        // It was the first of a flow mapping: what separates it from the next goes with it.
        metadata = { value: metadata.value, span: { start: metadata.span.start, end: span.start } };
        afterMetadata = undefined;
      }
      if (member.key === "sops") {
        if (!flow) metadata = { value: plainOf(member.node), span: this.#wholeLines(span) };
        else if (previousEnd === event.start + 1) {
          metadata = { value: plainOf(member.node), span };
          afterMetadata = span.end;
        } else metadata = { value: plainOf(member.node), span: { start: previousEnd, end: span.end } };
      }
      previousEnd = span.end;
    });
    const items = branch.items.filter((item) => item.kind === "comment" || item.key !== "sops");
    const isEmptyBlock = !flow && metadata !== undefined && items.every((item) => item.kind === "comment");
    return { branch: { kind: "mapping", items }, written: this.#written, metadata, isEmptyBlock };
  }

  #wholeLines({ start, end }: Span): Span {
    const lineStart = this.#text.lastIndexOf("\n", start - 1) + 1;
    if (this.#text.slice(lineStart, start).trim() !== "") throw malformed("its metadata shares a line with something");
    if (this.#text[end - 1] === "\n") return { start: lineStart, end };
    const lineEnd = this.#text.indexOf("\n", end);
    return { start: lineStart, end: lineEnd < 0 ? this.#text.length : lineEnd + 1 };
  }

  #mapping(event: MappingEvent, onMember?: (member: SopsMember, span: Span) => void): SopsMapping {
    const open = this.#enter(event);
    const items: (SopsMember | SopsComment)[] = [];
    const seen = new Set<string>();
    while (this.#events[this.#index]?.type !== EVENT_ID.POP) {
      const keyEvent = this.#events[this.#index++];
      if (keyEvent?.type !== EVENT_ID.SCALAR) throw malformed("a key is no text");
      const span = this.#token(keyEvent, items);
      const key = this.#scalarText(keyEvent);
      const isText = keyEvent.style !== SCALAR_STYLE.PLAIN || typeof resolved(key) === "string";
      if (!isText || (key === "<<" && keyEvent.style === SCALAR_STYLE.PLAIN)) throw malformed("a key is no text");
      if (seen.has(key)) throw malformed("a key is given twice");
      seen.add(key);
      const node = this.#node({ items, column: columnOf(this.#text, span.start), flow: open.flow }, 4);
      const member = { kind: "member", key, node } as const;
      items.push(member);
      onMember?.(member, { start: span.start, end: this.#from });
    }
    this.#leave(open, items);
    return { kind: "mapping", items };
  }

  #sequence(event: SequenceEvent): SopsNode {
    const open = this.#enter(event);
    const items: (SopsNode | SopsComment)[] = [];
    while (this.#events[this.#index]?.type !== EVENT_ID.POP)
      items.push(this.#node({ items, column: open.column, flow: open.flow }, 2));
    this.#leave(open, items);
    return { kind: "sequence", items };
  }

  /** The next node, in this collection. */
  #node(parent: Open, deeper: number): SopsNode {
    const event = this.#events[this.#index++];
    switch (event?.type) {
      case EVENT_ID.SCALAR: {
        const span = this.#token(event, parent.items);
        const leaf: SopsScalar = { kind: "scalar", value: this.#value(event) };
        const { flow, column } = parent;
        this.#written.set(leaf, {
          ...span,
          flow,
          comment: undefined,
          inSequence: deeper === 2,
          indent: column + deeper,
        });
        return leaf;
      }
      case EVENT_ID.MAPPING:
        return this.#mapping(this.#nested(event, parent));
      case EVENT_ID.SEQUENCE:
        return this.#sequence(this.#nested(event, parent));
      default:
        throw malformed("it has an alias");
    }
  }

  #nested<T extends MappingEvent | SequenceEvent>(event: T, parent: Open): T {
    this.#gap(event.start, parent.items);
    return event;
  }

  #enter(event: MappingEvent | SequenceEvent): Open {
    const flow = event.style === COLLECTION_STYLE.FLOW;
    if (this.#from <= event.start) this.#gap(event.start, undefined);
    this.#from = flow ? event.start + 1 : event.start;
    return { items: [], column: columnOf(this.#text, event.start), flow };
  }

  #leave({ flow, column }: Open, items: Item[]): void {
    this.#index++;
    const closing = flow ? /[}\]]/g : undefined;
    if (closing !== undefined) {
      closing.lastIndex = this.#from;
      this.#from = (closing.exec(this.#text)?.index ?? this.#from) + 1;
      return;
    }
    const next = this.#nextStart();
    if (next !== undefined) this.#gap(next, undefined);
    // What stands deeper than the collection's parents is still its own.
    const own = this.#waiting.filter((each) => each.column >= column);
    items.push(...own.map(({ comment }) => comment));
    this.#waiting = this.#waiting.filter((each) => each.column < column);
  }

  /** Where the next token begins, past what closes; the end of the text or of the document otherwise. */
  #nextStart(): number | undefined {
    for (let index = this.#index; index < this.#events.length; index++) {
      const event = this.#events[index];
      if (event?.type === EVENT_ID.POP) continue;
      if (event?.type === EVENT_ID.SCALAR) return spanOf(event).start;
      if (event?.type === EVENT_ID.MAPPING || event?.type === EVENT_ID.SEQUENCE) return event.start;
      return undefined;
    }
    return this.#text.length;
  }

  /** A scalar: comments before it go to the collection it is in. */
  #token(event: ScalarEvent, items: Item[]): Span {
    const span = spanOf(event);
    this.#gap(span.start, items);
    items.push(...this.#waiting.map(({ comment }) => comment));
    this.#waiting = [];
    this.#from = span.end;
    return span;
  }

  /** Reads the comments up to here. One in the line of a value comes before that value, as SOPS has it. */
  #gap(until: number, items: Item[] | undefined): void {
    if (until <= this.#from) return;
    const gap = this.#text.slice(this.#from, until);
    let inline = true;
    let offset = this.#from;
    for (const line of gap.split("\n")) {
      const found = /(?:^|\s)#/.exec(line);
      const hash = found === null ? -1 : found.index + found[0].length - 1;
      if (hash >= 0) {
        const start = offset + hash;
        const comment: SopsComment = { kind: "comment", text: line.slice(hash + 1).replace(/\r$/, "") };
        const span = { start: start + 1, end: start + 1 + comment.text.length };
        this.#written.set(comment, {
          ...span,
          flow: false,
          comment: inline ? "inline" : "line",
          inSequence: false,
          indent: 0,
        });
        if (inline && items !== undefined && items.length > 0) items.splice(items.length - 1, 0, comment);
        else this.#waiting.push({ comment, column: columnOf(this.#text, start) });
      }
      inline = false;
      offset += line.length + 1;
    }
    this.#from = until;
  }

  #scalarText(event: ScalarEvent): string {
    return getScalarValue(this.#text, event);
  }

  #value(event: ScalarEvent): SopsValue | undefined {
    const text = this.#scalarText(event);
    const tag = event.tagStart < 0 ? "" : this.#text.slice(event.tagStart, event.tagEnd);
    if (tag === "!!binary") return { kind: "text", bytes: Buffer.from(text.replace(/\s/g, ""), "base64") };
    if (event.style !== SCALAR_STYLE.PLAIN || tag === "!!str" || tag === "!") return textValue(text);
    const value = resolved(text);
    if (value === null) return undefined;
    if (typeof value === "string") return textValue(value);
    if (typeof value === "boolean") return { kind: "bool", value };
    return { kind: "int", text: typeof value === "bigint" ? String(value) : renderGoFloat(value, "f") };
  }
}

function resolved(text: string): ReturnType<typeof resolvePlain> {
  try {
    return resolvePlain(text, "kustomize");
  } catch (error) {
    if (error instanceof NotRepresentable) throw malformed("a number is infinite, or none");
    throw error;
  }
}

function spanOf({ valueStart, valueEnd, style }: ScalarEvent): Span {
  const quoted = style === SCALAR_STYLE.SINGLE_QUOTED || style === SCALAR_STYLE.DOUBLE_QUOTED;
  return quoted ? { start: valueStart - 1, end: valueEnd + 1 } : { start: valueStart, end: valueEnd };
}

function columnOf(text: string, offset: number): number {
  return offset - (text.lastIndexOf("\n", offset - 1) + 1);
}

/** The metadata as plain data, without prototypes. */
function plainOf(node: SopsNode): unknown {
  switch (node.kind) {
    case "scalar": {
      const { value } = node;
      if (value === undefined) return undefined;
      if (value.kind === "bool") return value.value;
      if (value.kind === "text") return Buffer.from(value.bytes).toString("utf8");
      return value.kind === "int" ? value.text : undefined;
    }
    case "sequence":
      return node.items.flatMap((item) => (item.kind === "comment" ? [] : [plainOf(item)]));
    case "mapping": {
      const members: Record<string, unknown> = { __proto__: null };
      for (const item of node.items) if (item.kind === "member") members[item.key] = plainOf(item.node);
      return members;
    }
  }
}
