import { describe, expect, test } from "vitest";
import { readLadderFile } from "../../build/ladder-file.ts";
import { renderFinding } from "../validation/finding.ts";
import { ladderProblems, sendsRequests } from "./ladder-problems.ts";
import { isLadderFile, readMigrations } from "./read-migrations.ts";

type Files = Readonly<Record<string, string | Uint8Array>>;

function read(files: Files) {
  return readMigrations(
    Object.entries(files).map(([path, content]) =>
      readLadderFile({ path, bytes: typeof content === "string" ? new TextEncoder().encode(content) : content }),
    ),
  );
}

/** Everything that is wrong, schema and rules. */
function problems(files: Files): readonly string[] {
  const { migrations, problems: found } = read(files);
  const context = {
    namespace: "shop",
    crossNamespace: "allowed",
    allowLoopback: false,
    stages: undefined,
    expressionProblem: (text: string) => (text.includes("(") ? "unbalanced" : undefined),
  } as const;
  const rules = [...ladderProblems(migrations, context)].filter(({ severity }) => severity === "deny");
  return [...found.map(({ path, message }) => `${path} ${message}`), ...rules.map(renderFinding)];
}

const boundaries = (files: Files): readonly string[] =>
  read(files).migrations.map(({ migration: { name, to, from } }) => [name, to, from].join(" ").trim());

const one = (rest: string): string => `name: one\nto: 1.2.0\n${rest}`;

describe("files of a ladder", () => {
  test("[30.33] one migration, lists, several documents, empty documents, JSON: in order", () => {
    const files = {
      "a.yaml": "---\n---\nname: a\nto: 1.1.0\n---\n- name: b\n  to: 1.2.0\n- {name: c, to: 1.3.0}\n---\n# nothing\n",
      "b/ladder.JSON": '[{"name": "d", "to": "1.4.0"},\n\t{"name": "e", "to": 1.5}]',
      "c.yml": "",
    };
    expect(problems(files)).toEqual([]);
    expect(boundaries(files)).toEqual(["a 1.1.0", "b 1.2.0", "c 1.3.0", "d 1.4.0", "e 1.5"]);
  });

  test.each([
    ["to: 1.10", "1.10"],
    ["to: 1.20\nfrom: 1.10", "1.20 1.10"],
    ["to: 2", "2"],
    ["to: 010", "010"],
    ["to: 0x10", "0x10"],
    ["to: 1_0", "1_0"],
    ["to: 1e3", "1e3"],
    ["to: 12345678901234567890", "12345678901234567890"],
    ["to: .inf", ".inf"],
    ["to: 2026-11-28", "2026-11-28"],
    ["to: true", "true"],
    ["to: 1.10 # comment", "1.10"],
    ['to: "1.10"', "1.10"],
    ["to: &v 1.10\nfrom: *v", "1.10 1.10"],
  ])("[30.33] %j is seen as written", (text, seen) => {
    expect(boundaries({ "m.yaml": `name: m\n${text}` })).toEqual([`m ${seen}`]);
    const item = text.replaceAll("\n", "\n  ");
    expect(boundaries({ "m.yaml": `- name: first\n  to: 1.0.0\n- name: m\n  ${item}` })[1]).toBe(`m ${seen}`);
  });

  test.each([
    ["to: ~", "m.yaml: to is missing, it is required"],
    ["to:", "m.yaml: to is missing, it is required"],
    ["to: [1]", "m.yaml: to is a list, want a string"],
    ["to: !!float 1.10", "m.yaml: to is 1.1, want a string"],
  ])("[30.33] refused: %j", (text, problem) => {
    expect(problems({ "m.yaml": `name: m\n${text}` })).toContain(problem);
  });

  test("[30.33] only `to` and `from` of a migration are taken as written", () => {
    const patch = "{target: {kind: A, selector: {matchLabels: {to: 1.10}}}, patch: '{}'}";
    expect(problems({ "m.yaml": one(`actions: [{name: a, patch: ${patch}}]`) })).toContain(
      "m.yaml: actions[0].patch.target.selector.matchLabels.to is 1.1, want a string",
    );
  });

  test("files are known by their ending, in any case; what begins with a dot is none", () => {
    const paths = ["a.yaml", "b/c.YML", "d.Json", "e.txt", "yaml", ".f.yaml", "g/.h/i.yaml", "j.yaml.bak", "k.jsonl"];
    expect(paths.filter(isLadderFile)).toEqual(["a.yaml", "b/c.YML", "d.Json"]);
  });
});

describe("what is refused", () => {
  test.each<[string, Files, readonly string[]]>([
    [
      "[30.33] a misspelt value that would fall back to a default",
      { "m.yaml": one("down: [{name: a, delete: {target: {kind: A, name: a}, cascade: orphan}}]") },
      ['m.yaml: down[0].delete.cascade is "orphan", want "Background" or "Foreground" or "Orphan"'],
    ],
    [
      "a misspelt field, in a list of a later document",
      { "x/m.yaml": `${one("")}---\n- ${one("").replaceAll("\n", "\n  ")}\n- name: two\n  to: 2.0.0\n  dwon: []\n` },
      [
        "x/m.yaml: document 2, [1].dwon is an unknown field, want one of name, to, from, stage, actions, down",
        'x/m.yaml: document 2, [0].name (migration "one") is "one", which x/m.yaml: document 1, name is too, want unique names',
      ],
    ],
    ["a field in the wrong case", { "m.yaml": one("Stage: db") }, ['m.yaml: Stage is an unknown field, want "stage"']],
    [
      "a key given twice",
      { "m.yaml": one("to: 1.3.0") },
      ["m.yaml cannot be read: a key given twice at line 3, column 1"],
    ],
    ["text", { "m.yaml": "hello" }, ['m.yaml is "hello", want an object']],
    [
      "items of no shape",
      { "m.yaml": "- 1\n- null\n" },
      ["m.yaml: [0] is 1, want an object", "m.yaml: [1] is null, want an object"],
    ],
    ["something that is not YAML", { "m.json": "{" }, ["m.json cannot be read: not valid YAML at line 1, column 2"]],
    ["bytes", { "m.yaml": Uint8Array.of(0xff) }, ["m.yaml is not UTF-8 text"]],
    ["no migration at all", { "m.yaml": "---\n" }, [" holds no migration"]],
    ["an empty list", { "m.yaml": "[]" }, [" holds no migration"]],
    [
      "names that are used in two files",
      { "a.yaml": one(""), "b.yaml": `[{name: one, to: 2.0.0}]` },
      ['b.yaml: [0].name (migration "one") is "one", which a.yaml: name is too, want unique names'],
    ],
    [
      "a version, a constraint and a retry count",
      { "m.yaml": "name: m\nto: 1.2.3.4\nfrom: 1.2.3\nactions: [{name: a, retries: 11, wait: {duration: 1s}}]" },
      [
        'm.yaml: to (migration "m") is "1.2.3.4", want a version such as "1.2.0"',
        'm.yaml: from (migration "m") is "1.2.3", a version without operator, want ">=1.2.3" or "=1.2.3"',
        'm.yaml: actions[0].retries (migration "m", action "a") is 11, want at most 10',
      ],
    ],
    [
      "verbs, references, paths, expressions and scopes",
      {
        "m.yaml": one(
          "actions: [{name: a}, {name: b, job: {sourceRef: {name: ''}, path: ../x}}, {name: c, scope: Version, wait: {target: {kind: A, name: a}, expr: 'f('}}]",
        ),
      },
      [
        'm.yaml: actions[0] (migration "one", action "a") sets none, want exactly one of patch, http, wait, job, delete, apply',
        'm.yaml: actions[2].scope (migration "one", action "c") is "Version", want it on pre and post actions only',
        'm.yaml: actions[1].job.sourceRef.name (migration "one", action "b") is empty, want a name',
        'm.yaml: actions[1].job.path (migration "one", action "b") is "../x", want a path within the artifact',
        'm.yaml: actions[2].wait.expr (migration "one", action "c") is "f(", which is no boolean expression: unbalanced',
      ],
    ],
  ])("%s", (_title, files, expected) => {
    expect(problems(files)).toEqual(expected);
  });

  test("201 migrations and 101 steps", () => {
    const many = Array.from({ length: 201 }, (_, index) => `- {name: m${index}, to: 1.${index}.0}`).join("\n");
    expect(problems({ "m.yaml": many })).toEqual(["the ladder has 201 migrations, want at most 200"]);
    const steps = Array.from({ length: 101 }, (_, index) => `  - {name: s${index}, wait: {duration: 1s}}`).join("\n");
    expect(problems({ "m.yaml": one(`down:\n${steps}`) })).toEqual([
      'm.yaml: down (migration "one") has 101 actions, want at most 100',
    ]);
  });

  test("an alias bomb, in bounded memory", () => {
    const levels = Array.from({ length: 30 }, (_, level) => `  - &l${level + 1} [*l${level}, *l${level}]`).join("\n");
    const bomb = `name: m\nto: &l0 1.2.0\nactions:\n${levels}\n`;
    expect(problems({ "m.yaml": bomb }).join()).toMatch(
      /^m\.yaml cannot be read: aliases that expand to more than 10 times/,
    );
  });

  test("50,000 migrations and 50,000 unknown fields are counted, not listed", () => {
    const many = Array.from({ length: 50_000 }, (_, index) => `- {name: m${index}, to: 1.2.0}`).join("\n");
    expect(problems({ "m.yaml": many })).toEqual([
      " has 50000 migrations, of which 10000 were read",
      "the ladder has 10000 migrations, want at most 200",
    ]);
    const fields = Array.from({ length: 50_000 }, (_, index) => `f${index}: 1`).join("\n");
    expect(problems({ "m.yaml": one(fields) })).toHaveLength(21);
  });

  test("which migration would send a request", () => {
    const ladder = (list: string) =>
      `${one("")}---\nname: two\nto: 2.0.0\n${list}: [{name: a, http: {url: "https://a.b/"}}]`;
    for (const list of ["actions", "down"])
      expect(sendsRequests(read({ "m.yaml": ladder(list) }).migrations)?.migration.name).toBe("two");
    expect(sendsRequests(read({ "m.yaml": one("") }).migrations)).toBeUndefined();
  });
});
