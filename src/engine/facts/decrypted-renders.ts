/** What is kept of one stage in the clear. */
export interface DecryptedRenders {
  /** Of the keys it was decrypted with. */
  readonly digest: string;
  /** In the render cache, the newest last. */
  readonly cacheKeys: Set<string>;
}

/** Renders of a stage that are kept in the clear; of more revisions it is seldom at two. */
const mostKept = 4;

/** Notes a render that is kept in the clear, and forgets those that other keys opened (spec 50 §11.6). */
export function noteDecrypted(
  renders: { drop(key: string): void },
  noted: Map<string, DecryptedRenders>,
  of: { readonly stage: string; readonly cacheKey: string; readonly digest: string | undefined },
): void {
  const { stage, cacheKey, digest } = of;
  const before = noted.get(stage);
  if (before !== undefined && before.digest !== digest) {
    for (const key of before.cacheKeys) renders.drop(key);
    noted.delete(stage);
  }
  if (digest === undefined) return;
  const { cacheKeys } = noted.get(stage) ?? { cacheKeys: new Set<string>() };
  noted.set(stage, { digest, cacheKeys });
  cacheKeys.delete(cacheKey);
  cacheKeys.add(cacheKey);
  const [oldest] = cacheKeys;
  if (cacheKeys.size <= mostKept || oldest === undefined) return;
  cacheKeys.delete(oldest);
  renders.drop(oldest);
}
