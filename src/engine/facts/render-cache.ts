import type { Built } from "../../build/build-stage.ts";

/**
 * Renders by everything that went into them, least recently used first to go; concurrent requests for one key share the
 * build. Bounded by the bytes they take, bodies of objects and what is known of each.
 */
export interface RenderCache {
  get(key: string, build: () => Promise<Built>): Promise<Built>;
  /** Builds for later. Nobody else waits for such a build: who asks meanwhile makes one of its own. */
  getAhead(key: string, build: () => Promise<Built>): Promise<Built>;
  /** What is kept. */
  peek(key: string): Built | undefined;
  /** Forgets what is kept. */
  drop(key: string): void;
  /** Forgets all that is kept for this StageSet, which is gone: its uid begins each of its keys ({@link renderKeyOf}). */
  release(uid: string): void;
  /** Forgets all that is kept. */
  clear(): void;
}

export function renderKeyOf(uid: string, hash: string): string {
  return `${uid} ${hash}`;
}

/** What an object takes beside its body, and a render beside its objects: measured with small ConfigMaps. */
const objectBytes = 1_500;
const renderBytes = 1_000;

export function createRenderCache(options: { readonly maxBytes: number }): RenderCache {
  const kept = new Map<string, { readonly built: Built; readonly bytes: number }>();
  const building = new Map<string, Promise<Built>>();
  let bytes = 0;
  const keep = (key: string, built: Built): void => {
    const size = built.objects.reduce((sum, { body }) => sum + body.byteLength + objectBytes, renderBytes);
    if (size > options.maxBytes) return;
    kept.set(key, { built, bytes: size });
    bytes += size;
    for (const [oldest, entry] of kept) {
      if (bytes <= options.maxBytes) break;
      kept.delete(oldest);
      bytes -= entry.bytes;
    }
  };
  const peek = (key: string): Built | undefined => {
    const hit = kept.get(key);
    if (hit === undefined) return undefined;
    kept.delete(key);
    kept.set(key, hit);
    return hit.built;
  };
  const drop = (key: string): void => {
    bytes -= kept.get(key)?.bytes ?? 0;
    kept.delete(key);
  };
  return {
    peek,
    drop,
    release(uid) {
      const own = renderKeyOf(uid, "");
      for (const key of kept.keys()) if (key.startsWith(own)) drop(key);
    },
    clear() {
      kept.clear();
      bytes = 0;
    },
    async getAhead(key, build) {
      const known = peek(key) ?? (await building.get(key));
      if (known !== undefined) return known;
      const built = await build();
      if (!kept.has(key) && !built.unscoped) keep(key, built);
      return built;
    },
    async get(key, build) {
      const hit = peek(key);
      if (hit !== undefined) return hit;
      const running = building.get(key);
      if (running !== undefined) return running;
      const started = build();
      building.set(key, started);
      try {
        const built = await started;
        if (!kept.has(key) && !built.unscoped) keep(key, built);
        return built;
      } finally {
        building.delete(key);
      }
    },
  };
}
