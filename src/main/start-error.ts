/** The process cannot go on: exit code 1. */
export class StartError extends Error {
  override name = "StartError";
}
