import type { HealthCheck } from "../http/health.ts";

/** The checks of `/readyz` (spec 60 §3.2): parts of the process say how theirs is told as they are built. */
export interface Readiness {
  /** In the order in which they were named. */
  readonly checks: readonly HealthCheck[];
  /** Says how a named check is told; until then it fails. */
  provide(name: string, isHealthy: () => boolean): void;
  /** From now on not ready: endpoints drain. */
  stop(): void;
  isReady(): boolean;
}

export function createReadiness(names: readonly string[]): Readiness {
  const told = new Map<string, () => boolean>();
  let stopping = false;
  const checks: readonly HealthCheck[] = [
    { name: "ping", isHealthy: () => true },
    ...names.map((name) => ({ name, isHealthy: () => told.get(name)?.() ?? false })),
    { name: "shutdown", isHealthy: () => !stopping },
  ];
  return {
    checks,
    provide(name, isHealthy) {
      if (!names.includes(name)) throw new Error(`no readiness check is named "${name}"`);
      told.set(name, isHealthy);
    },
    stop() {
      stopping = true;
    },
    isReady: () => checks.every((check) => check.isHealthy()),
  };
}
