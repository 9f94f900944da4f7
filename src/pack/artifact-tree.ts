/** What stands at a path. */
export type TreeEntry = { readonly kind: "file"; readonly bytes: number } | { readonly kind: "directory" };

/** An entry of a directory. `other`: a link, or a special file; `find` tells where a link leads. */
export type ListedEntry = (TreeEntry | { readonly kind: "other" }) & {
  readonly name: string;
  /** False: the name's bytes are no UTF-8. It is shown with replacement characters, and no path leads to it. */
  readonly addressable: boolean;
};

/**
 * The files of an artifact, read only. Paths are relative, UTF-8, with `/`, and without dot or empty segments; the empty
 * path is the root. Disposing closes what is open.
 */
export interface ArtifactTree extends Disposable {
  /** Links are followed inside the root. */
  find(path: string): TreeEntry | undefined;
  /** In the byte order of their names; nothing for what is no directory. */
  list(path: string): Iterable<ListedEntry>;
  /** All of a file: its bytes are not to be changed. Throws for what `find` does not tell to be a file. */
  read(path: string): Uint8Array;
  /** The files are more than so many bytes, or files and directories more than so many entries. */
  isBiggerThan(limits: { readonly bytes: number; readonly entries: number }): boolean;
}
