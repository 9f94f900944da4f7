import { Command, CommanderError } from "commander";
import { version } from "./version.ts";

/** Usage errors exit with 2 (spec 70 §3). */
const program = new Command("stagesetctl")
  .description("Looks at StageSets and what they wait for")
  .version(version)
  .exitOverride()
  .showHelpAfterError("(see stagesetctl --help)");

try {
  if (process.argv.length < 3) program.outputHelp();
  else await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode === 0 ? 0 : 2;
}
