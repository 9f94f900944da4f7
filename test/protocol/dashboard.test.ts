import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { toolPath } from "../../src/dev/tools.ts";
import { asArray, asObject, asText, at } from "../../src/lib/json.ts";

const file = new URL("../../charts/stageset-controller/files/dashboard.json", import.meta.url);
const text = await readFile(file, "utf8");
const dashboard: unknown = JSON.parse(text);

/** What Grafana's schema says against a dashboard, a line each. */
async function problemsOf(json: string): Promise<readonly string[]> {
  const program = await toolPath("grafana-schema");
  return new Promise((resolve) => {
    const child = execFile(program, (_error, _stdout, stderr) =>
      resolve(stderr.split("\n").filter((line) => line !== "")),
    );
    child.stdin?.end(json);
  });
}

test("[60.19] Grafana's own schema, read strictly, takes the dashboard as it is", async () => {
  expect(await problemsOf(text)).toEqual([]);
  const [panel, ...others] = asArray(at(dashboard, "panels"));
  const broken = { ...asObject(dashboard), panels: [{ ...asObject(panel), gridPos: { h: "tall" } }, ...others] };
  expect((await problemsOf(JSON.stringify(broken))).join("\n")).toContain("panels[0].gridPos");
}, 120_000);

test("[60.19] the dashboard is the one that links and provisioning expect, and queries use no variable it lacks", () => {
  expect(dashboard).toMatchObject({
    uid: "stageset-controller",
    title: "StageSet controller",
    tags: ["stageset", "controller", "slo"],
    refresh: "30s",
    time: { from: "now-6h", to: "now" },
  });
  const variables = asArray(at(dashboard, "templating", "list")).map((one) => asText(at(one, "name")) ?? "");
  expect(variables).toEqual([
    ...["datasource", "selector", "namespace", "stageset", "window", "availabilityTarget", "latencyTarget"],
  ]);
  const used = [...text.matchAll(/\$\{?([A-Za-z_]+)\}?/g)].map(([, name = ""]) => name);
  expect(
    [...new Set(used)].filter((name) => !variables.includes(name) && !/^__(all|rate_interval)$/.test(name)),
  ).toEqual([]);
  const panels = asArray(at(dashboard, "panels"));
  expect(new Set(panels.map((panel) => at(panel, "id"))).size).toBe(panels.length);
});
