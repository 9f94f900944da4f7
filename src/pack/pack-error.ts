/** A pack that is cut, changed, or none: what it holds cannot be told. Another download helps. */
export class PackError extends Error {
  override name = "PackError";
  readonly reason = "Damaged";
  readonly retry = "backoff";
  constructor(options?: ErrorOptions) {
    super("what is kept of the artifact is damaged", options);
  }
}
