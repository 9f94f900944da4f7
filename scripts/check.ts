/** The one gate: format, lint, types, layers, generated files, tests. Stops at the first that fails. */
import { spawn } from "node:child_process";

const steps = ["format:check", "lint", "types", "layers", "generate:check", "test"];

for (const step of steps) {
  process.stdout.write(`\n— ${step}\n`);
  const code = await run(step);
  if (code === 0) continue;
  process.stderr.write(`npm run ${step} failed\n`);
  process.exit(code);
}

function run(step: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn("npm", ["run", "-s", step], { stdio: "inherit" });
    child.once("error", reject);
    child.once("close", (code) => resolve(code ?? 1));
  });
}
