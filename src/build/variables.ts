/** What `${…}` in manifests stands for (spec 20 §5.3). */
export interface Variables {
  /** As read, line feeds included. */
  readonly values: ReadonlyMap<string, string>;
  /** Any value comes from a Secret. */
  readonly secret: boolean;
}
