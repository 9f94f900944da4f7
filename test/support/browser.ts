import { chromium, type Browser } from "playwright-core";
import { chromiumPath } from "../../src/dev/debian-package.ts";

/** A Chromium without windows; the sandbox wants a user other than root. */
export async function startBrowser(): Promise<Browser> {
  const onProgress = (line: string): void => void process.stderr.write(`${line}\n`);
  return chromium.launch({
    executablePath: await chromiumPath({ onProgress }),
    args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
    timeout: 120_000,
  });
}
