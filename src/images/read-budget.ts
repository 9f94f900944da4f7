import { RegistryError } from "./registry-error.ts";

/** What registries may make the controller hold at one time, beyond what every answer has for itself. */
export interface ReadMemory {
  left: number;
}

/** Of one answer that is not counted in the memory shared by all: bundles are smaller. */
const ownBytes = 256 * 1024;

/** What registries may send for one image, whatever becomes of it. */
export interface ReadBudget {
  readonly isSpent: boolean;
  /**
   * Counts bytes as they are received.
   *
   * @param size of the answer with them
   * @throws {RegistryError}
   */
  take(bytes: number, size: number): void;
  /** What was read is not held any more. */
  release(): void;
}

/** @param most bytes of one image */
export function createReadBudget(most: number, memory: ReadMemory): ReadBudget {
  let left = most;
  let held = 0;
  return {
    get isSpent() {
      return left <= 0;
    },
    take(bytes, size) {
      left -= bytes;
      if (left < 0) throw new RegistryError("refused", `its registry answers with more than ${most} bytes in all`);
      const shared = Math.min(bytes, Math.max(0, size - ownBytes));
      if (shared > memory.left) throw new RegistryError("unavailable", "too much is being read of registries just now");
      memory.left -= shared;
      held += shared;
    },
    release() {
      memory.left += held;
      held = 0;
    },
  };
}
