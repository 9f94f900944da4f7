/** The API group of every kind of ours. */
export const apiGroup = "stages.metio.wtf";

/** The one version, served and stored. */
export const apiVersion = "stages.metio.wtf/v1";
