import type { TestProject } from "vitest/node";
import { installCrds } from "../../src/dev/crds.ts";
import { startControlPlane } from "../../src/dev/control-plane.ts";

/** What a test needs to reach the run's control plane. */
export interface ProvidedControlPlane {
  readonly server: string;
  readonly caPem: string;
  readonly caFile: string;
  readonly adminToken: string;
  readonly kubeconfigPath: string;
  readonly auditLogPath: string;
}

declare module "vitest" {
  interface ProvidedContext {
    controlPlane: ProvidedControlPlane;
    /** No test was left out by its title; absent without a control plane. */
    everyTitle: boolean;
  }
}

/** One control plane per run, with a simulated node, our definitions and those of Flux's sources; stopped at the end. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const onProgress = (line: string): void => void process.stderr.write(`${line}\n`);
  const controlPlane = await startControlPlane({ kwok: true, onProgress });
  try {
    const { server, caPem, caFile, adminToken, kubeconfigPath, auditLogPath } = controlPlane;
    await installCrds({ server, caPem, token: adminToken }, ["stageset", "flux"], { onProgress });
    // To all projects: `afterwards` looks at what the run left.
    const { vitest } = project;
    vitest.provide("controlPlane", { server, caPem, caFile, adminToken, kubeconfigPath, auditLogPath });
    vitest.provide("everyTitle", vitest.config.testNamePattern === undefined);
  } catch (error) {
    await controlPlane.stop();
    throw error;
  }
  return () => controlPlane.stop();
}
