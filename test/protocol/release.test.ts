import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { shellcheckPath } from "../../src/dev/debian-package.ts";
import { toolPath } from "../../src/dev/tools.ts";
import { version } from "../../src/main/version.ts";
import { runProgram } from "../support/chart.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const workflows = join(root, ".github/workflows");

describe("the workflows", () => {
  test("pass actionlint", async () => {
    const files = (await readdir(workflows)).map((name) => join(workflows, name));
    const args = [`-shellcheck=${await shellcheckPath()}`, "-pyflakes=", ...files];
    const { code, stdout } = await runProgram(await toolPath("actionlint"), args);
    expect(code, stdout).toBe(0);
  }, 60_000);

  test("and the launchers pass shellcheck", async () => {
    const scripts = ["bin/stageset-controller", "bin/stagesetctl", "test/support/image.sh"].map((path) =>
      join(root, path),
    );
    const { code, stdout } = await runProgram(await shellcheckPath(), scripts);
    expect(code, stdout).toBe(0);
  });

  test("pin every action by digest, or say why not", async () => {
    for (const name of await readdir(workflows)) {
      const uses = (await readFile(join(workflows, name), "utf8")).split("\n").filter((line) => /\buses:/.test(line));
      expect(uses.length).toBeGreaterThan(0);
      for (const line of uses) expect(line).toMatch(/@[0-9a-f]{40} # v\d|@v\d+ # a tag: /);
    }
  });
});

describe("a release", () => {
  let dir = "";
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "stageset-release-"));
    const dist = join(dir, "dist");
    for (const args of [
      ["scripts/build.ts", "--out", dist],
      ["scripts/release.ts", "--dist", dist, "--out", join(dir, "out")],
    ]) {
      const { code, stderr } = await runProgram(process.execPath, args);
      expect(code, stderr).toBe(0);
    }
  }, 120_000);
  afterAll(() => rm(dir, { recursive: true, force: true }));

  test("names one version everywhere", async () => {
    expect((await runProgram(process.execPath, ["scripts/release.ts", "--check-version", version])).code).toBe(0);
    const other = await runProgram(process.execPath, ["scripts/release.ts", "--check-version", "9.9.9"]);
    expect(other.code).toBe(1);
    expect(other.stderr).toContain("Chart.yaml, appVersion");
  });

  test("has every asset, with its checksum", async () => {
    const out = join(dir, "out");
    const names = (await readdir(out)).sort();
    expect(names).toEqual(
      [
        "NOTES.md",
        "SHA256SUMS",
        "crds.yaml",
        "dashboard.json",
        "install-minimal.yaml",
        "install.yaml",
        `stagesetctl-${version}.tar.gz`,
        `stagesetctl-${version}.tgz`,
        `stageset-controller-${version}.tgz`,
      ].sort(),
    );
    const sums = await readFile(join(out, "SHA256SUMS"), "utf8");
    for (const name of names.filter((one) => one !== "NOTES.md" && one !== "SHA256SUMS")) {
      const hash = createHash("sha256")
        .update(await readFile(join(out, name)))
        .digest("hex");
      expect(sums).toContain(`${hash}  ${name}\n`);
    }
    expect((await readFile(join(out, "NOTES.md"), "utf8")).trim()).not.toBe("");
    expect(parseAllDocuments(await readFile(join(out, "crds.yaml"), "utf8")).length).toBe(5);
  });

  test("has a command line that npm installs into an empty folder, also as a plugin of kubectl", async () => {
    const folder = join(dir, "empty");
    await mkdir(folder);
    const archive = join(dir, "out", `stagesetctl-${version}.tgz`);
    const env = { PATH: `${dirname(process.execPath)}:${process.env["PATH"] ?? ""}` };
    const flags = ["--offline", "--ignore-scripts", "--no-audit", "--no-fund", `--prefix=${folder}`];
    const installed = await runProgram("npm", ["install", ...flags, archive], env);
    expect(installed.code, installed.stderr).toBe(0);
    const modules = join(folder, "node_modules");
    expect(await readdir(modules)).toEqual([".bin", ".package-lock.json", "stagesetctl"]);
    const files = await readdir(join(modules, "stagesetctl"), { recursive: true, withFileTypes: true });
    expect(files.filter((file) => file.isFile()).map(({ name }) => name)).toEqual(
      expect.arrayContaining(["LICENSE", "README.md", "package.json", "stagesetctl.js"]),
    );
    for (const name of ["stagesetctl", "kubectl-stageset"]) {
      const { code, stdout, stderr } = await runProgram(join(modules, ".bin", name), ["version"], env);
      expect(code, stderr).toBe(0);
      expect(stdout).toContain(version);
    }
  });

  test("has the same command line in an archive for those without npm", async () => {
    const archive = join(dir, "out", `stagesetctl-${version}.tar.gz`);
    expect((await runProgram("tar", ["-xzf", archive, "-C", dir])).code).toBe(0);
    const { code, stdout } = await runProgram(process.execPath, [
      join(dir, "stagesetctl/bin/stagesetctl.js"),
      "version",
    ]);
    expect(code).toBe(0);
    expect(stdout).toContain(version);
  });
});
