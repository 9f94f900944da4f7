import type { ApiResource } from "./request.ts";

/** Of the core group; needs no discovery. */
export const secrets: ApiResource = {
  group: "",
  version: "v1",
  kind: "Secret",
  plural: "secrets",
  namespaced: true,
  verbs: [],
};
