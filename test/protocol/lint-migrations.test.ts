import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import type { Migration, StageSetSpec } from "../../src/api/stage-set.ts";
import { CommandFailed, type CommandIo, UsageError } from "../../src/cli/command-io.ts";
import { type LintFlags, runLintMigrations } from "../../src/cli/lint-migrations.ts";
import { decideVersion } from "../../src/domain/versions/decide-version.ts";
import type { LintReport } from "../../src/domain/versions/lint-ladder.ts";
import { nothingRecorded, rungsOf } from "../../src/domain/versions/migration-ledger.ts";
import { validateStageSet } from "../../src/domain/validation/validate-stage-set.ts";
import { systemClock } from "../../src/lib/clock.ts";

const program = fileURLToPath(new URL("../../bin/stagesetctl", import.meta.url));
let folder = "";
let count = 0;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "lint-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function written(files: Readonly<Record<string, string | Uint8Array>>): Promise<string> {
  const root = join(folder, String(count++));
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
  return root;
}

interface Linted {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function lint(path: string, flags: Partial<LintFlags> = {}): Promise<Linted> {
  let [stdout, stderr] = ["", ""];
  const io: CommandIo = {
    env: {},
    clock: systemClock,
    signal: new AbortController().signal,
    out: (text) => (stdout += text),
    error: (text) => (stderr += text),
  };
  const tools = { check: () => Promise.reject(new Error("there is no expression to check")) };
  const code = await runLintMigrations(path, { output: "text", ...flags }, { io, tools });
  return { code, stdout, stderr };
}

const split = {
  name: "split",
  to: "1.4.0",
  from: ">=1.0.0 <1.4.0",
  stage: "app",
  actions: [
    { name: "a", job: { sourceRef: { name: "tools" } } },
    { name: "b", wait: { duration: "1s" } },
  ],
  down: [{ name: "a", wait: { duration: "1s" } }],
};
const drop = { name: "drop", to: "1.5.0", actions: [{ name: "a", http: { url: "https://hooks.example/" } }] };
const stageSet = (spec: object = {}): string =>
  stringify({
    apiVersion: "stages.metio.wtf/v1",
    kind: "StageSet",
    metadata: { name: "shop", namespace: "shop" },
    spec: { stages: ["db", "app"].map((name) => ({ name, sourceRef: { name } })), ...spec },
  });

describe("lint-migrations", () => {
  test("[70.29] a misspelt field in a list file is named as such", async () => {
    const root = await written({ "m.yaml": "- name: a\n  to: 1.0.0\n- name: b\n  to: 1.1.0\n  acitons: []\n" });
    const { code, stdout } = await lint(root);
    expect(stdout).toBe(
      "✗ m.yaml: [1].acitons: is an unknown field, want one of name, to, from, stage, actions, down\n",
    );
    expect(code).toBe(1);
  });

  test("[70.29] [30.37] two problems: two lines, exit code 1; a second document and deeper files are checked", async () => {
    const root = await written({
      "b.yaml": "name: a\nto: 1.0.0\n---\nname: b\nto: latest\n",
      "a/c.YML": "to: 1.0.0\n",
    });
    const { code, stdout } = await lint(root);
    expect(stdout.split("\n")).toEqual([
      "✗ a/c.YML: name: is missing, it is required",
      '✗ b.yaml: document 2, to: is "latest", want a version such as "1.2.0"',
      "",
    ]);
    expect(code).toBe(1);
  });

  test("[70.29] [30.37] the transition report, up and down", async () => {
    const root = await written({ "ladder.yaml": stringify([drop, split]) });
    const up = await lint(root, { from: "1.3.0", to: "v1.5" });
    expect(up.stdout).toBe(
      [
        "✓ 2 migration(s) valid",
        "  drop   → 1.5.0 before (first stage)       http",
        "  split  >=1.0.0 <1.4.0 → 1.4.0 before app  job, wait",
        "",
        "transition 1.3.0 → 1.5.0:",
        "  split  FIRES  job, wait",
        "  drop   FIRES  http",
        "",
      ].join("\n"),
    );
    expect(up.code).toBe(0);
    expect((await lint(root, { from: "0.9.0", to: "1.4.0" })).stdout).toContain(
      [
        '  split  excluded  from ">=1.0.0 <1.4.0" does not match current 0.9.0',
        "  drop   excluded  to 1.5.0 is not in the crossed range (0.9.0, 1.4.0]",
      ].join("\n"),
    );
    expect((await lint(root, { from: "1.5.0", to: "1.0.0" })).stdout).toContain(
      ["  split  UNWINDS       wait", "  drop   irreversible  has no down steps"].join("\n"),
    );
  });

  test("[30.37] warnings leave the exit code alone", async () => {
    const never = { name: "never", to: "1.5.0", from: ">=1.5.0" };
    const root = await written({ "ladder.json": JSON.stringify([split, drop, never]) });
    const { code, stderr } = await lint(root);
    expect(code).toBe(0);
    expect(stderr.split("\n")).toEqual([
      'warning: ladder.json: [1]: migration "drop" has no down steps: it cannot be undone',
      'warning: ladder.json: [1]: migration "drop" sends requests: in an artifact that needs a controller with --allowed-action-hosts',
      'warning: ladder.json: [2]: migration "never" never runs: ">=1.5.0" means no version below 1.5.0',
      'warning: ladder.json: [2]: migration "never" leads to 1.5.0 before the same stage as "drop": they run in this order',
      'warning: ladder.json: [2]: migration "never" has no actions: it only covers the step to its version',
      'warning: ladder.json: [2]: migration "never" has no down steps: it cannot be undone',
      "",
    ]);
  });

  test("[30.37] against a StageSet: unknown stages, the inverted order, what its rules refuse", async () => {
    const root = await written({ "m/ladder.yaml": stringify([drop, split]), "shop.yaml": stageSet() });
    const stageset = join(root, "shop.yaml");
    const ladder = join(root, "m");
    const linted = await lint(ladder, { stageset, from: "1.5.0", to: "1.4.0" });
    expect(linted.stderr).toContain(
      'migration "drop" to 1.5.0 runs before "split" to 1.4.0, because its stage comes earlier',
    );
    expect(linted.stdout).toContain("refused  DowngradeNotAllowed: Cannot go from version 1.5.0 to 1.4.0");
    expect(linted.code).toBe(0);
    const lost = await written({ "m.yaml": stringify({ ...split, stage: "web" }) });
    expect(await lint(lost, { stageset })).toMatchObject({
      code: 1,
      stdout: '✗ m.yaml: stage: is "web", want the name or migrationAnchor of a stage\n',
    });
  });

  test("as JSON, one document", async () => {
    const root = await written({ "m.yaml": stringify(split) });
    const report = JSON.parse((await lint(root, { output: "json", from: "1.0.0", to: "2.0.0" })).stdout) as LintReport;
    expect(report).toMatchObject({
      valid: true,
      problems: [],
      migrations: [{ name: "split", to: "1.4.0", actions: ["job", "wait"], down: ["wait"] }],
      transition: { from: "1.0.0", to: "2.0.0", migrations: [{ name: "split", outcome: "fires" }] },
    });
  });

  test("[70.29] [30.37] what cannot be read or is no version", async () => {
    const root = await written({ "m.yaml": stringify(split), "none.yaml": "kind: ConfigMap\n" });
    await expect(lint(join(root, "missing"))).rejects.toThrow(CommandFailed);
    await expect(lint(root, { stageset: join(root, "none.yaml") })).rejects.toThrow(/holds 0 StageSets/);
    await expect(lint(root, { from: "1.0.0" })).rejects.toThrow(UsageError);
    await expect(lint(root, { from: "1.0.0", to: "latest" })).rejects.toThrow(UsageError);
  });

  test("[30.37] a ladder is as large as the controller takes it, all files together", async () => {
    const half = `# ${" ".repeat(512 * 1024)}\n`;
    const root = await written({ "a.yaml": `${half}{ name: idx, to: 1.3.0 }`, "b.yaml": half, "c.yaml": half });
    const { code, stdout } = await lint(root);
    expect(code).toBe(1);
    expect(stdout.match(/b\.yaml.* makes the ladder larger than 1048576 bytes/g)).toHaveLength(1);
    expect(stdout).not.toContain("c.yaml");
  });

  test("a link out of the directory, a file without ending, escape sequences", async () => {
    const root = await written({ "ladder/m.yaml": 'name: "a\\e[31m\\nb"\nto: x\n', "other.yaml": stringify(split) });
    await symlink("../other.yaml", join(root, "ladder", "link.yaml"));
    const { stdout } = await lint(join(root, "ladder"));
    expect(stdout).toBe(
      '✗ link.yaml: is a link that leads out of the directory\n✗ m.yaml: to: is "x", want a version such as "1.2.0"\n',
    );
    const named = await written({ "m.yaml": stringify({ name: "a\u001b[31m\nb", to: "1.0.0" }) });
    expect((await lint(named)).stdout).toContain("  a[31mb  → 1.0.0");
    const plain = await written({ ladder: stringify(split) });
    expect((await lint(join(plain, "ladder"))).stdout).toMatch(/is no \.yaml, \.yml or \.json file/);
  });

  const ran = (...args: readonly string[]): Promise<Linted> =>
    new Promise((resolve) => {
      execFile(program, ["lint-migrations", ...args], (error, stdout, stderr) => {
        resolve({ code: typeof error?.code === "number" ? error.code : 0, stdout, stderr });
      });
    });

  test("[30.37] the program: exit codes, and expressions are compiled", async () => {
    const wait = (expr: string) => ({ name: "w", wait: { target: { kind: "Job", name: "a" }, expr } });
    const root = await written({
      "good.yaml": stringify({ ...split, actions: [wait("status.succeeded == 1")] }),
      "bad/m.yaml": stringify({ ...split, actions: [wait("status.")] }),
    });
    expect(await ran(join(root, "good.yaml"))).toMatchObject({ code: 0, stderr: "" });
    const bad = await ran(join(root, "bad"));
    expect(bad.stdout).toMatch(/^✗ m\.yaml: actions\[0\]\.wait\.expr: is "status\.", which is no boolean expression: /);
    expect(bad.code).toBe(1);
    expect((await ran(join(root, "good.yaml"), "--to", "1.0.0")).code).toBe(2);
    expect((await ran()).code).toBe(2);
    expect((await ran(join(root, "missing"))).code).toBe(3);
  }, 120_000);

  const version = fc.constantFrom("0.9.0", "1.0.0", "1.1", "1.2.0-rc.1", "v2", "1.10");
  const migration = fc.record({
    name: fc.constantFrom("a", "b", "c", "d"),
    to: fc.oneof({ weight: 20, arbitrary: version }, { weight: 1, arbitrary: fc.constant("latest") }),
    from: fc.constantFrom(undefined, undefined, "1.x", ">=1.1", "<2"),
    stage: fc.constantFrom(undefined, "db", "app"),
    actions: fc.constantFrom(undefined, [{ name: "a", wait: { duration: "1s" } }]),
    down: fc.constantFrom(undefined, [{ name: "a", wait: { duration: "1s" } }]),
  });

  test("[30.37] [70.29] its verdict is the controller's, on 200 generated ladders", async () => {
    const verdicts = new Set<string>();
    const same = fc.asyncProperty(
      fc.array(migration, { minLength: 1, maxLength: 5 }),
      version,
      version,
      async (list, from, to) => {
        const migrations = list.map((one) =>
          Object.fromEntries(Object.entries(one).filter(([, value]) => value !== undefined)),
        ) as unknown as Migration[]; // Nothing but absent members went.
        const root = await written({
          "m/m.yaml": stringify(migrations),
          "s.yaml": stageSet({ version: { value: "1.0.0", allowDowngrade: true } }),
        });
        const flags = { output: "json", from, to, stageset: join(root, "s.yaml") } as const;
        const report = JSON.parse((await lint(join(root, "m"), flags)).stdout) as LintReport;
        const stages = ["db", "app"].map((name) => ({ name, sourceRef: { name } }));
        const spec: StageSetSpec = { stages, version: { value: to, allowDowngrade: true }, migrations };
        const denied = validateStageSet(spec, {
          namespace: "shop",
          name: "shop",
          crossNamespace: "allowed",
          allowLoopback: false,
        }).filter(({ severity }) => severity === "deny");
        expect(report.problems).toHaveLength(denied.length);
        verdicts.add(report.valid ? "valid" : "invalid");
        if (!report.valid) return;
        const decision = decideVersion({
          rules: spec.version ?? {},
          wanted: { text: to, origin: "" },
          directed: false,
          deployed: from,
          annotations: {},
          recorded: nothingRecorded,
          stageVersions: [],
          stages,
          rungs: rungsOf(migrations),
        });
        const reported = report.transition?.migrations ?? [];
        if (decision.kind === "refused") {
          expect(report.transition?.refused).toEqual({ reason: decision.reason, message: decision.message });
          verdicts.add(decision.reason);
          return;
        }
        if (decision.kind !== "run") throw new Error(decision.kind);
        const names = (outcome: string) => reported.filter((one) => one.outcome === outcome).map(({ name }) => name);
        expect(names("fires")).toEqual(decision.plan.apply.map(({ rung }) => rung.migration.name));
        expect(names("unwinds").toSorted()).toEqual(
          decision.plan.unwind.map(({ rung }) => rung.migration.name).toSorted(),
        );
        verdicts.add(names("fires").length > 0 ? "fires" : names("unwinds").length > 0 ? "unwinds" : "nothing");
      },
    );
    await fc.assert(same, { numRuns: 200, seed: 7 });
    expect([...verdicts].toSorted()).toEqual([
      "DowngradeRequiresMigration",
      "fires",
      "invalid",
      "nothing",
      "unwinds",
      "valid",
    ]);
  }, 120_000);
});
