/** Bounds of one artifact; a value exactly at a cap passes. Sizes in bytes. */
export interface ArtifactCaps {
  readonly bodyBytes: number;
  /** The whole tar stream, ignored entries included. */
  readonly inflatedBytes: number;
  readonly entryBytes: number;
  /** The sum of the regular files. */
  readonly keptBytes: number;
  /** Entries of the archive; as many folders may come of them. */
  readonly entries: number;
  readonly pathBytes: number;
  readonly pathDepth: number;
}

const mebibyte = 1024 * 1024;

/** Spec 50 §6. */
export const artifactCaps: ArtifactCaps = {
  bodyBytes: 64 * mebibyte,
  inflatedBytes: 512 * mebibyte,
  entryBytes: 16 * mebibyte,
  keptBytes: 64 * mebibyte,
  entries: 100_000,
  pathBytes: 1024,
  pathDepth: 64,
};
