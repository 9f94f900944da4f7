import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { toolPath } from "../../src/dev/tools.ts";
import { asArray, asText, at } from "../../src/lib/json.ts";
import type { Manifest } from "./test-client.ts";

export const chartFolder = fileURLToPath(new URL("../../charts/stageset-controller", import.meta.url));

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end; a failure is a value. */
export function runProgram(
  path: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  cwd?: string,
): Promise<Ran> {
  return new Promise((resolve) => {
    const options = {
      env: { ...process.env, ...env },
      maxBuffer: 64 * 1024 * 1024,
      ...(cwd === undefined ? {} : { cwd }),
    };
    execFile(path, [...args], options, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : typeof error.code === "number" ? error.code : -1, stdout, stderr }),
    );
  });
}

export async function runHelm(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
  return runProgram(await toolPath("helm"), args, env);
}

export interface RenderOptions {
  readonly namespace?: string;
  readonly release?: string;
  readonly values?: unknown;
  /** Default: the chart of the checkout. */
  readonly chart?: string;
}

/** `helm template`, as it comes. */
export async function tryRender(options: RenderOptions = {}): Promise<Ran> {
  return withValues(options.values, (file) =>
    runHelm([
      "template",
      options.release ?? "demo",
      options.chart ?? chartFolder,
      `--namespace=${options.namespace ?? "stageset-system"}`,
      `--values=${file}`,
    ]),
  );
}

/** The objects the chart renders. */
export async function renderChart(options: RenderOptions = {}): Promise<readonly RenderedManifest[]> {
  const { code, stdout, stderr } = await tryRender(options);
  if (code !== 0) throw new Error(stderr);
  return parseManifests(stdout);
}

/** A rendered object always has a name. */
export type RenderedManifest = Manifest & {
  readonly metadata: { readonly name: string; readonly namespace?: string };
};

export function parseManifests(text: string): readonly RenderedManifest[] {
  // What a chart renders are manifests, or nothing.
  const objects = parseAllDocuments(text).map((document) => document.toJS() as RenderedManifest | null);
  return objects.filter((object) => object !== null);
}

/** Hands a values file to `use`, gone afterwards. */
export async function withValues<T>(values: unknown, use: (file: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), "stageset-values-"));
  try {
    const file = join(dir, "values.yaml");
    await writeFile(file, JSON.stringify(values ?? {}));
    return await use(file);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** The one object of a kind, with the name when several are there. */
export function find(
  manifests: readonly RenderedManifest[],
  kind: string,
  name?: string,
): RenderedManifest | undefined {
  return manifests.find((one) => one.kind === kind && (name === undefined || one.metadata.name === name));
}

export function named(manifests: readonly RenderedManifest[], kind: string): readonly string[] {
  return manifests.filter((one) => one.kind === kind).map((one) => one.metadata.name);
}

/** The arguments of the controller's container. */
export function argsOf(manifests: readonly RenderedManifest[]): readonly string[] {
  const pod = at(find(manifests, "Deployment"), "spec", "template", "spec");
  return asArray(at(asArray(at(pod, "containers"))[0], "args")).map((arg) => asText(arg) ?? "");
}
