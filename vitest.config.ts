import { defineConfig } from "vitest/config";

// Projects by the machinery a test needs: `unit` needs none, the others share one control plane (test/support/global-setup.ts),
// at which `afterwards` looks when the others are done.
export default defineConfig({
  test: {
    projects: [
      { test: { name: "unit", include: ["src/**/*.test.ts", "test/protocol/**/*.test.ts"], testTimeout: 30_000 } },
      {
        test: {
          name: "apiserver",
          include: ["test/apiserver/**/*.test.ts", "test/system/**/*.test.ts", "test/faults/**/*.test.ts"],
          globalSetup: ["test/support/global-setup.ts"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          maxWorkers: 2,
        },
      },
      {
        test: {
          name: "afterwards",
          include: ["test/afterwards/**/*.test.ts"],
          sequence: { groupOrder: 1 },
          testTimeout: 120_000,
          maxWorkers: 1,
        },
      },
    ],
  },
});
