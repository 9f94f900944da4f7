import type { WhyInput } from "../../domain/why/why.ts";
import type { KubeObject } from "../../lib/kube-object.ts";

/** What a replica knows, from its caches alone. */
export interface UiView {
  /** The caches hold everything there is in scope; before, nothing is answered. */
  isSynced(): boolean;
  stageSets(): readonly KubeObject[];
  stageSet(namespace: string, name: string): KubeObject | undefined;
  fleets(): readonly KubeObject[];
  fleet(name: string): KubeObject | undefined;
  /** What is known around a StageSet to tell why it does not move. */
  input(stageSet: KubeObject): WhyInput;
  /** Called with each object that changed or is gone. */
  subscribe(listener: (changed: ChangedObject) => void): Disposable;
}

export interface ChangedObject {
  readonly kind: "StageSet" | "FleetRollout";
  readonly namespace: string;
  readonly name: string;
}
