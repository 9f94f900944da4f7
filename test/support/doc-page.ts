import { spawn } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** A fenced block that readers are told to run (`sh run`) or to save (`yaml file=NAME`). */
export type PageBlock =
  | { readonly kind: "run"; readonly line: number; readonly script: string }
  | { readonly kind: "file"; readonly line: number; readonly name: string; readonly text: string };

export interface Page {
  readonly file: string;
  readonly blocks: readonly PageBlock[];
}

export interface PageRun {
  /** Where files are saved and commands run. */
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** Default: all of them. */
  readonly blocks?: readonly PageBlock[];
}

/** A page takes seconds; one that hangs is ended before its test is, so that what it printed is seen. */
const pageTimeoutMs = 100_000;

/** The blocks of a page under `docs/`, in order. */
export async function readPage(file: string): Promise<Page> {
  const text = await readFile(fileURLToPath(new URL(`../../docs/${file}`, import.meta.url)), "utf8");
  const blocks: PageBlock[] = [];
  for (const match of text.matchAll(/^```(sh run|yaml file=(\S+))\n(.*?)^```$/gms)) {
    const [, , name, body = ""] = match;
    const line = text.slice(0, match.index).split("\n").length + 1;
    blocks.push(name === undefined ? { kind: "run", line, script: body } : { kind: "file", line, name, text: body });
  }
  return { file, blocks };
}

/**
 * Does what the page says, in one shell, as a reader would.
 *
 * @throws an Error with the page's line and what the command printed, when one fails
 */
export async function runPage(page: Page, { cwd, env, blocks = page.blocks }: PageRun): Promise<string> {
  for (const block of blocks) if (block.kind === "file") await writeFile(join(cwd, block.name), block.text);
  const scripts = blocks.flatMap((block) =>
    block.kind === "run" ? [`echo "# docs/${page.file}:${block.line}"\n${block.script}`] : [],
  );
  const shell = spawn("bash", ["-euo", "pipefail"], { cwd, env: { ...process.env, ...env } });
  let output = "";
  for (const stream of [shell.stdout, shell.stderr])
    stream.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
  shell.stdin.end(scripts.join("\n"));
  const timer = setTimeout(() => {
    output += `\nended after ${pageTimeoutMs} ms\n`;
    shell.kill("SIGKILL");
  }, pageTimeoutMs);
  const code = await new Promise<number | null>((resolve, reject) => {
    shell.once("error", reject);
    shell.once("close", resolve);
  });
  clearTimeout(timer);
  if (code !== 0) throw new Error(`docs/${page.file} failed with exit code ${String(code)}:\n${output}`);
  return output;
}
