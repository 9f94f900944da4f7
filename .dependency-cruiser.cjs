// The direction of imports is data: docs/decisions/0001-module-boundaries.md. A folder of src/ that is not in the table fails.
const core = ["lib", "api", "domain"];
const layers = {
  lib: [],
  api: ["lib"],
  domain: ["lib", "api"],
  kube: ["lib"],
  outbound: ["lib"],
  observe: ["lib"],
  compute: ["lib"],
  certificates: ["kube", "lib"],
  dev: ["lib"],
  identity: ["kube", "outbound", ...core],
  pack: ["lib"],
  source: ["pack", "outbound", "lib"],
  build: ["pack", "compute", ...core],
  apply: ["kube", ...core],
  kms: ["build", "outbound", ...core],
  images: ["compute", "outbound", ...core],
  actions: ["source", "build", "apply", "identity", "outbound", "kube", ...core],
  runtime: ["kube", "observe", "lib"],
  engine: ["actions", "apply", "build", "compute", "source", "identity", "images", "outbound", "kms", "kube", ...core],
  controller: ["engine", "runtime", "kube", "observe", ...core],
  http: ["observe", ...core],
  cli: ["engine", "source", "build", "apply", "identity", "kube", ...core],
  main: null,
};
const names = Object.keys(layers);
const forbidden = [
  { name: "no-circular", severity: "error", from: {}, to: { circular: true } },
  {
    name: "unknown-folder",
    severity: "error",
    comment: "a folder of src/ must be in the table above",
    from: { path: "^src/", pathNot: `^src/(${names.join("|")})/` },
    to: {},
  },
  {
    name: "core-without-node",
    severity: "error",
    from: { path: "^src/(lib|api|domain)/", pathNot: "\\.test\\.ts$|^src/lib/(clock|random|abort|file)\\.ts$" },
    to: { dependencyTypes: ["core"] },
  },
  {
    name: "node-http-server-in-one-place",
    severity: "error",
    from: { path: "^src/", pathNot: "^src/(http/server|dev/|outbound/|.*\\.test)" },
    to: { path: "^(node:)?https?$", dependencyTypesNot: ["type-only"] },
  },
  ...names
    .filter((name) => layers[name] !== null)
    .map((name) => ({
      name: `layer-${name}`,
      severity: "error",
      from: { path: `^src/${name}/`, pathNot: "\\.test\\.ts$" },
      to: { path: "^src/", pathNot: `^src/(${[name, ...layers[name]].join("|")})/` },
    })),
];
module.exports = {
  forbidden,
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    doNotFollow: { path: "node_modules" },
    enhancedResolveOptions: { extensions: [".ts", ".js", ".json"] },
  },
};
