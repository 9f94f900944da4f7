/** Put in by the bundler (`define`); a run from the sources has none of them. */
declare const BUILD_COMMIT: string | undefined;
declare const RUNBOOK_BASE_URL: string | undefined;

/** The commit the program was built from. */
export const commit = typeof BUILD_COMMIT === "undefined" ? "unknown" : BUILD_COMMIT;

/** Where runbook pages are; a build puts the repository's address in front (spec 60 §16). The only such default. */
export const runbookBaseUrl = typeof RUNBOOK_BASE_URL === "undefined" ? "docs/runbooks" : RUNBOOK_BASE_URL;
