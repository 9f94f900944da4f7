import { describe, expect, test } from "vitest";
import { durationMs } from "../../lib/duration.ts";
import { matchesConstraint, parseConstraint } from "./constraint.ts";
import { parseCron } from "./cron.ts";
import { selectValues } from "./json-path-select.ts";
import { parseJsonPath } from "./json-path.ts";
import { parseVersion, renderVersion } from "./version.ts";

/**
 * Texts put together from parts, each with the verdict and value that the tables of spec 10 §2 give it; the tables of odd
 * cases are beside each parser. What is expected is worked out here in the plainest way, by nothing of the parsers.
 */
interface Case {
  readonly text: string;
  /** Undefined: rejected. */
  readonly value: unknown;
}

function check(cases: readonly Case[], read: (text: string) => unknown): void {
  expect(new Set(cases.map(({ text }) => text)).size).toBeGreaterThanOrEqual(200);
  const wrong = cases.flatMap(({ text, value }) => {
    const seen = read(text);
    return JSON.stringify(seen) === JSON.stringify(value) ? [] : [{ text, value, seen }];
  });
  expect(wrong).toEqual([]);
}

function product<A, B>(as: readonly A[], bs: readonly B[]): readonly (readonly [A, B])[] {
  return as.flatMap((a) => bs.map((b) => [a, b] as const));
}

describe("corpora of at least 200 texts", () => {
  test("[10.18] durations", () => {
    const nanoseconds: readonly (readonly [unit: string, ns: number])[] = [
      ["ns", 1],
      ["us", 1e3],
      ["\u00b5s", 1e3],
      ["\u03bcs", 1e3],
      ["ms", 1e6],
      ["s", 1e9],
      ["m", 60e9],
      ["h", 3600e9],
    ];
    const numbers = ["0", "1", "007", "2.", ".5", "1.5"];
    const signs = [
      ["", 1],
      ["+", 1],
      ["-", -1],
    ] as const;
    // A fraction of a nanosecond is none, and what is not zero is at least a millisecond.
    const ms = (ns: number): number => (Math.trunc(ns) === 0 ? 0 : Math.max(1, Math.trunc(ns / 1e6)));
    const single = product(product(signs, numbers), nanoseconds).map(([[[sign, factor], number], [unit, ns]]): Case => {
      const value = ms(Number(number) * ns);
      return { text: `${sign}${number}${unit}`, value: value === 0 ? 0 : factor * value };
    });
    const pairs = product(nanoseconds, nanoseconds).map(([[first, one], [second, two]]): Case => ({
      text: `3${first}2.5${second}`,
      value: ms(3 * one + Math.trunc(2.5 * two)),
    }));
    const unfit = [
      "",
      " ",
      "d",
      "w",
      "y",
      "H",
      "M",
      "S",
      "sec",
      "min",
      "\u00b5",
      "m s",
      "s ",
      "e3s",
      ",5s",
      "..5s",
      "s-1s",
    ];
    const rejected = product([...numbers.filter((text) => text !== "0"), "0.0"], unfit).map(([number, unit]): Case => ({
      text: `${number}${unit}`,
      value: undefined,
    }));
    check([...single, ...pairs, ...rejected], durationMs);
  });

  test("[10.18] versions", () => {
    const plain = (part: string | undefined): string => String(BigInt(part ?? "0"));
    const numbers = product(["0", "1", "01", "18446744073709551615"], [
      [],
      ["2"],
      ["007"],
      ["2", "3"],
      ["007", "0"],
    ] as readonly (readonly string[])[]).map(([major, rest]) => ({
      text: [major, ...rest].join("."),
      canonical: [major, rest[0], rest[1]].map(plain).join("."),
    }));
    const ends = product(["", "-rc.1", "-0", "-alpha-b", "--"], ["", "+b.01"]).map(([pre, meta]) => pre + meta);
    const accepted = product(product(["", "v", " "], numbers), ends).map(
      ([[before, { text, canonical }], end]): Case => ({
        text: `${before}${text}${end}`,
        value: canonical + end,
      }),
    );
    const unfit = [".", ".x", "-", "+", "-01", "-rc..1", "-rc_1", "+a+b", "..1", ",1", " 1", "-\u00e4"];
    const rejected = product(numbers, unfit).map(([{ text }, end]): Case => ({ text: text + end, value: undefined }));
    check([...accepted, ...rejected], (text) => {
      const version = parseVersion(text);
      return version && renderVersion(version);
    });
  });

  test("[10.18] constraints", () => {
    type Triple = readonly [number, number, number];
    const below = (a: Triple, b: Triple): boolean => {
      const at = [0, 1, 2].find((index) => a[index] !== b[index]);
      return at !== undefined && (a[at] ?? 0) < (b[at] ?? 0);
    };
    /** The first version behind all that begin with these many parts. */
    const behind = ([major, minor, patch]: Triple, parts: number): Triple =>
      parts === 1 ? [major + 1, 0, 0] : parts === 2 ? [major, minor + 1, 0] : [major, minor, patch + 1];
    const means: Readonly<Record<string, (of: Triple, low: Triple, parts: number) => boolean>> = {
      "=": (of, low, parts) => !below(of, low) && below(of, behind(low, parts)),
      "!=": (of, low, parts) => below(of, low) || !below(of, behind(low, parts)),
      ">": (of, low, parts) => !below(of, behind(low, parts)),
      ">=": (of, low) => !below(of, low),
      "=>": (of, low) => !below(of, low),
      "<": (of, low) => below(of, low),
      "<=": (of, low, parts) => below(of, behind(low, parts)),
      "=<": (of, low, parts) => below(of, behind(low, parts)),
      "~": (of, low, parts) => !below(of, low) && below(of, behind(low, Math.min(parts, 2))),
      "~>": (of, low, parts) => !below(of, low) && below(of, behind(low, Math.min(parts, 2))),
      "^": (of, low, parts) => {
        const leading = low.slice(0, parts).findIndex((part) => part > 0);
        return !below(of, low) && below(of, behind(low, leading < 0 ? parts : leading + 1));
      },
    };
    const operands = ["0", "1", "2", "0.0", "0.2", "1.2", "0.0.3", "0.2.3", "1.2.3", "2.0.0"];
    const candidates = [
      "0.0.0",
      "0.0.3",
      "0.0.4",
      "0.2.0",
      "0.2.3",
      "0.3.0",
      "1.0.0",
      "1.2.2",
      "1.2.3",
      "1.2.4",
      "1.3.0",
    ];
    candidates.push("2.0.0", "2.0.1", "3.0.0");
    const triple = (text: string): Triple => {
      const [major = 0, minor = 0, patch = 0] = text.split(".").map(Number);
      return [major, minor, patch];
    };
    const cases = product(Object.entries(means), operands).map(([[operator, holds], operand]): Case => ({
      text: operator + operand,
      value: candidates.filter((of) => holds(triple(of), triple(operand), operand.split(".").length)).join(" "),
    }));
    const combined = product(operands, operands).flatMap(([one, two]): readonly Case[] => {
      const [least, most] = [triple(one), triple(two)];
      const between = candidates.filter((of) => !below(triple(of), least) && below(triple(of), most)).join(" ");
      const either = candidates.filter((of) => !below(triple(of), least) || below(triple(of), most)).join(" ");
      return [
        { text: `>=${one} <${two}`, value: between },
        { text: `>=${one}, <${two}`, value: between },
        { text: `>=${one} || <${two}`, value: either },
      ];
    });
    const unfit = product(operands, [">>", "> =", "==", "<>", "!", "~=", "^^", "=>="]);
    const rejected = unfit.map(([operand, operator]): Case => ({ text: operator + operand, value: undefined }));
    check([...cases, ...combined, ...rejected], (text) => {
      const parsed = parseConstraint(text);
      if (parsed.kind !== "constraint") return undefined;
      return candidates
        .filter((of) => {
          const version = parseVersion(of);
          return version !== undefined && matchesConstraint(parsed.constraint, version);
        })
        .join(" ");
    });
  });

  test("[10.18] schedules", () => {
    const fields = [
      { name: "minutes", from: 0, to: 59 },
      { name: "hours", from: 0, to: 23 },
      { name: "days", from: 1, to: 31 },
      { name: "months", from: 1, to: 12 },
      { name: "weekdays", from: 0, to: 6 },
    ] as const;
    const every = (from: number, to: number, step = 1): readonly number[] => {
      const values: number[] = [];
      for (let value = from; value <= to; value += step) values.push(value);
      return values;
    };
    const scheduleWith = (index: number, field: string): string =>
      fields.map((_field, at) => (at === index ? field : "*")).join(" ");
    const whole = Object.fromEntries(fields.map(({ name, from, to }) => [name, every(from, to)]));
    const accepted = fields.flatMap(({ name, from, to }, index) => {
      const values: readonly (readonly [string, readonly number[]])[] = [
        ["*", every(from, to)],
        ["?", every(from, to)],
        [String(from), [from]],
        [String(to), [to]],
        [`${to},${from}`, [from, to]],
        [`${from}-${to}`, every(from, to)],
        [`${from}-${from + 2}`, every(from, from + 2)],
        [`${from}-${to}/2`, every(from, to, 2)],
        ["*/2", every(from, to, 2)],
        ["?/3", every(from, to, 3)],
        [`${from + 1}/2`, every(from + 1, to, 2)],
        [`${from + 1},${from + 3}-${from + 4}`, [from + 1, from + 3, from + 4]],
        [`0${to}`, [to]],
        ["*/1000", [from]],
      ];
      return values.map(([field, value]): Case => ({
        text: scheduleWith(index, field),
        value: { ...whole, [name]: value },
      }));
    });
    const rejected = fields.flatMap(({ from, to }, index) =>
      [String(to + 1), from === 0 ? "-1" : "0", `${to}-${from}`, `${from}-${to + 1}`, "*/0", "*/x", "*/-1"]
        .concat([`${from}-${from}-${from}`, `${from}/1/1`, `${from},`, `,${from}`, `${from}.5`, "L", "x", "**", "*-2"])
        .concat(["nodata", "+1", "1#2"])
        .map((field): Case => ({ text: scheduleWith(index, field), value: undefined })),
    );
    const named = [..."jan feb mar apr may jun jul aug sep oct nov dec".split(" ").entries()].flatMap(
      ([index, month]): readonly Case[] => [
        { text: scheduleWith(3, month), value: { ...whole, months: [index + 1] } },
        { text: scheduleWith(3, month.toUpperCase()), value: { ...whole, months: [index + 1] } },
        { text: scheduleWith(4, month), value: undefined },
      ],
    );
    const days = [..."sun mon tue wed thu fri sat".split(" ").entries()].flatMap(([index, day]): readonly Case[] => [
      { text: scheduleWith(4, day), value: { ...whole, weekdays: [index] } },
      { text: scheduleWith(2, day), value: undefined },
    ]);
    check([...accepted, ...rejected, ...named, ...days], (text) => {
      const parsed = parseCron(text);
      if (parsed.kind !== "cron") return undefined;
      return Object.fromEntries(fields.map(({ name }) => [name, parsed.cron[name]]));
    });
    // Either day is enough only when both are said.
    const said = { "*": false, "?": false, "*/1": false, "1": true, "1-3": true, "*/2": true, "2,4": true };
    for (const [[day, saysDay], [weekday, saysWeekday]] of product(Object.entries(said), Object.entries(said))) {
      const parsed = parseCron(`0 0 ${day} * ${weekday}`);
      const dayMatch = parsed.kind === "cron" ? parsed.cron.dayMatch : undefined;
      expect([day, weekday, dayMatch]).toEqual([day, weekday, saysDay && saysWeekday ? "either" : "both"]);
    }
  });

  test("[10.18] JSONPaths", () => {
    const numbers = [10, 20, 30, 40, 50];
    const { length } = numbers;
    const document = { kind: "Thing", numbers, deep: { name: "web", "a/b": { c: true } } };
    const bounds = ["", "-6", "-5", "-2", "0", "2", "4", "5", "6"];
    /** As kubectl does: one that asks for nothing is empty, one that leaves the list is an error. */
    const slice = (first: string, last: string, step: number): readonly number[] | undefined => {
      const placed = (bound: string, unsaid: number): number =>
        bound === "" ? unsaid : Number(bound) < 0 ? Number(bound) + length : Number(bound);
      const [from, to] = [placed(first, 0), placed(last, length)];
      if (from === to) return [];
      if (from < 0 || from >= length || to < 0 || to > length || from > to) return undefined;
      return numbers.filter((_number, index) => index >= from && index < to && (index - from) % step === 0);
    };
    const slices = product(product(bounds, bounds), ["", ":1", ":2", ":3"]).map(([[first, last], step]): Case => ({
      text: `{.numbers[${first}:${last}${step}]}`,
      value: slice(first, last, step === "" ? 1 : Number(step.slice(1))),
    }));
    const indexes = Array.from({ length: 15 }, (_, index) => index - 7).map((index): Case => {
      const number = numbers.at(index);
      return { text: `{.numbers[${index}]}`, value: number === undefined ? undefined : [number] };
    });
    const places: readonly (readonly [steps: readonly string[], value: unknown])[] = [
      [["kind"], "Thing"],
      [["deep", "name"], "web"],
      [["deep", "a/b", "c"], true],
      [["deep", "absent"], undefined],
      [["kind", "name"], undefined],
      [["toString"], undefined],
      [["__proto__"], undefined],
    ];
    const spelled = places.flatMap(([steps, value]): readonly Case[] => {
      const dotted = steps.map((step) => `.${step}`).join("");
      const quoted = steps.map((step) => `['${step}']`).join("");
      return [
        `{${dotted}}`,
        dotted,
        `$${dotted}`,
        `{$${dotted}}`,
        `{@${dotted}}`,
        `{ ${dotted} }`,
        `{${quoted}}`,
        `{$${quoted}}`,
      ].map((text) => ({ text, value: value === undefined ? undefined : [value] }));
    });
    const malformed = [
      "{.numbers[0:1:0]}",
      "{.numbers[0:1:-1]}",
      "{.numbers[a:b]}",
      "{.numbers[:::]}",
      "{.numbers[",
      "deep.name",
    ];
    check([...slices, ...indexes, ...spelled, ...malformed.map((text) => ({ text, value: undefined }))], (text) => {
      const parsed = parseJsonPath(text);
      if (parsed.kind === "malformed") return undefined;
      const selected = selectValues(parsed.path, document);
      return selected.kind === "selected" ? selected.parts[0] : undefined;
    });
  });
});
