import type { StagePatch } from "../../src/build/stage-patch.ts";

/** A kustomization and what kustomize 5.8 makes of it, as YAML documents in any order. */
export interface KustomizeCase {
  readonly name: string;
  readonly files: Readonly<Record<string, string>>;
  readonly path?: string;
  readonly patches?: readonly StagePatch[];
  readonly expected: string;
}

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: web
          image: nginx:1.0
          env: [{name: HOST, value: placeholder}]
          envFrom: [{configMapRef: {name: settings}}]
        - name: side
          image: busybox
`;
const service = `apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, protocol: TCP}]
`;
const base = {
  "base/kustomization.yaml": "resources: [deployment.yaml, service.yaml]\n",
  "base/deployment.yaml": deployment,
  "base/service.yaml": service,
};
const settings = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {host: example.org, port: '80'}\n";

/** The deployment with its parts replaced. */
function web(o: { name?: string; labels?: string; meta?: string; replicas?: number; image?: string; host?: string; config?: string; side?: string } = {}): string {
  const labels = o.labels ?? "{app: web}";
  return `apiVersion: apps/v1
kind: Deployment
metadata: {name: ${o.name ?? "web"}, labels: ${labels}${o.meta ?? ""}}
spec:
  replicas: ${o.replicas ?? 1}
  selector: {matchLabels: ${labels}}
  template:
    metadata: {labels: ${labels}}
    spec:
      containers:
        - name: web
          image: ${o.image ?? "nginx:1.0"}
          env: [{name: HOST, value: ${o.host ?? "placeholder"}}]
          envFrom: [{configMapRef: {name: ${o.config ?? "settings"}}}]
${o.side ?? "        - {name: side, image: busybox}\n"}`;
}

export const kustomizeCases: readonly KustomizeCase[] = [
  {
    name: "overlay: prefix, suffix, namespace, labels, annotations, replicas",
    path: "overlays/prod",
    files: {
      ...base,
      "overlays/prod/kustomization.yaml": `resources: [../../base]
namePrefix: p-
nameSuffix: -s
namespace: shop
labels: [{pairs: {tier: front}}]
commonAnnotations: {owner: team}
replicas: [{name: web, count: 3}]
`,
    },
    expected: `${web({ name: "p-web-s", meta: ", namespace: shop, annotations: {owner: team}", replicas: 3 })
      .replace("labels: {app: web}", "labels: {app: web, tier: front}")
      .replace("template:\n    metadata: {", "template:\n    metadata: {annotations: {owner: team}, ")}---
apiVersion: v1
kind: Service
metadata: {name: p-web-s, namespace: shop, labels: {tier: front}, annotations: {owner: team}}
spec: {selector: {app: web}, ports: [{port: 80, protocol: TCP}]}
`,
  },
  {
    name: "commonLabels reach selectors",
    files: { ...base, "kustomization.yaml": "resources: [base]\ncommonLabels: {team: a}\n" },
    expected: `${web({ labels: "{app: web, team: a}" })}---
apiVersion: v1
kind: Service
metadata: {name: web, labels: {team: a}}
spec: {selector: {app: web, team: a}, ports: [{port: 80, protocol: TCP}]}
`,
  },
  {
    name: "components add to whoever names them",
    path: "app",
    files: {
      "app/kustomization.yaml": "resources: [settings.yaml]\ncomponents: [../components/extra]\n",
      "app/settings.yaml": settings,
      "components/extra/kustomization.yaml": `apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
resources: [more.yaml]
patches: [{patch: '[{"op": "add", "path": "/data/extra", "value": "yes"}]', target: {name: settings}}]
`,
      "components/extra/more.yaml": "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: extra}\n",
    },
    expected: `apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {host: example.org, port: '80', extra: 'yes'}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: extra}
`,
  },
  {
    name: "generators: literals, files, envs, hashes in names and references",
    files: {
      "kustomization.yaml": `resources: [deployment.yaml]
configMapGenerator:
  - name: settings
    literals: [a=1, b=two words]
    files: [conf/app.ini, renamed.txt=conf/other.txt]
    envs: [vars.env]
secretGenerator:
  - name: token
    type: Opaque
    literals: [token=s3cret]
`,
      "deployment.yaml": deployment,
      "conf/app.ini": "[app]\nx=1\n",
      "conf/other.txt": "text",
      "vars.env": "# comment\nFROM_ENV=value\n",
    },
    expected: `${web({ config: "settings-HASH1" })}---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings-HASH1}
data: {a: '1', b: two words, app.ini: "[app]\\nx=1\\n", renamed.txt: text, FROM_ENV: value}
---
apiVersion: v1
kind: Secret
metadata: {name: token-HASH2}
type: Opaque
data: {token: czNjcmV0}
`,
  },
  {
    name: "generators: merge, replace, no hash",
    files: {
      "base/kustomization.yaml":
        "configMapGenerator: [{name: a, literals: [x=1, y=1]}, {name: b, literals: [x=1]}]\ngeneratorOptions: {disableNameSuffixHash: true, labels: {from: base}}\n",
      "kustomization.yaml": `resources: [base]
generatorOptions: {disableNameSuffixHash: true}
configMapGenerator:
  - {name: a, behavior: merge, literals: [y=2, z=2]}
  - {name: b, behavior: replace, literals: [only=this]}
`,
    },
    expected: `apiVersion: v1
kind: ConfigMap
metadata: {name: a, labels: {from: base}}
data: {x: '1', 'y': '2', z: '2'}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: b, labels: {from: base}}
data: {only: this}
`,
  },
  {
    name: "replacements: whole fields, parts by delimiter, from a file",
    files: {
      "kustomization.yaml": `resources: [deployment.yaml, settings.yaml]
replacements:
  - source: {kind: ConfigMap, name: settings, fieldPath: data.host}
    targets:
      - select: {kind: Deployment}
        fieldPaths: ['spec.template.spec.containers.[name=web].env.[name=HOST].value']
  - path: tag.yaml
`,
      "tag.yaml": `source: {kind: ConfigMap, name: settings, fieldPath: data.port}
targets:
  - select: {kind: Deployment}
    fieldPaths: ['spec.template.spec.containers.[name=web].image']
    options: {delimiter: ':', index: 1}
`,
      "deployment.yaml": deployment,
      "settings.yaml": settings,
    },
    expected: `${web({ host: "example.org", image: "nginx:80" })}---\n${settings}`,
  },
  {
    name: "images: tag, digest, new name",
    files: {
      ...base,
      "kustomization.yaml": `resources: [base/deployment.yaml]
images:
  - {name: nginx, newName: registry.example.org/nginx, newTag: '1.2'}
  - {name: busybox, digest: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}
`,
    },
    expected: web({
      image: "registry.example.org/nginx:1.2",
      side: `        - {name: side, image: "busybox@sha256:${"0".repeat(64)}"}\n`,
    }),
  },
  {
    name: "patches: strategic merge by file and inline, JSON 6902, deletion, selectors",
    files: {
      ...base,
      "kustomization.yaml": `resources: [base]
patches:
  - path: replicas.yaml
  - patch: |-
      - op: replace
        path: /spec/template/spec/containers/0/image
        value: nginx:2.0
    target: {kind: Deploy.*, labelSelector: app=web}
  - patch: |-
      apiVersion: v1
      kind: Service
      metadata: {name: web}
      $patch: delete
`,
      "replicas.yaml": `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 5
  template: {spec: {containers: [{name: side, $patch: delete}]}}
`,
    },
    expected: web({ replicas: 5, image: "nginx:2.0", side: "" }),
  },
  {
    name: "old fields: bases, patchesStrategicMerge, patchesJson6902, vars",
    files: {
      ...base,
      "kustomization.yaml": `bases: [base]
patchesStrategicMerge:
  - |-
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web}
    spec: {replicas: 2}
patchesJson6902:
  - target: {group: apps, version: v1, kind: Deployment, name: web}
    path: image.json
`,
      "image.json": '[{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "nginx:3"}]',
    },
    expected: `${web({ replicas: 2, image: "nginx:3" })}---\n${service}`,
  },
  {
    name: "stage patches come after the kustomization's own",
    files: { ...base, "kustomization.yaml": "resources: [base/deployment.yaml]\npatches: [{path: own.yaml}]\n", "own.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 5}\n" },
    patches: [
      { patch: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 7}\n" },
      {
        patch: '[{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "nginx:9"}]',
        target: { group: "apps", version: "v1", kind: "Deployment", name: "w.b", annotationSelector: "!skip" },
      },
      { patch: "[{op: remove, path: /spec}]", target: { name: "we" } },
    ],
    expected: web({ replicas: 7, image: "nginx:9" }),
  },
  {
    name: "generated: files at any depth and directories with a kustomization",
    path: "app",
    files: {
      "app/a.YAML": settings,
      "app/deep/er/b.json": JSON.stringify({ apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "deep" } }),
      "app/kust/Kustomization": "namePrefix: k-\nresources: [service.yml]\n",
      "app/kust/service.yml": service,
      "app/kust/ignored.yaml": "not: a manifest\n",
      "app/.hidden/c.yaml": "not: a manifest\n",
      "outside.yaml": settings,
    },
    expected: `${settings}---
apiVersion: v1
kind: ServiceAccount
metadata: {name: deep}
---
apiVersion: v1
kind: Service
metadata: {name: k-web}
spec: {selector: {app: web}, ports: [{port: 80, protocol: TCP}]}
`,
  },
  {
    name: "an explicit kustomization without a field",
    files: { "kustomization.yaml": "# nothing yet\n", "a.yaml": "not: read\n" },
    expected: "",
  },
  {
    name: "an empty base",
    files: { "kustomization.yaml": "resources: [base, settings.yaml]\n", "base/kustomization.yaml": "", "settings.yaml": settings },
    expected: settings,
  },
  {
    name: "lists, local objects, YAML 1.1 words and old octals",
    files: {
      "kustomization.yaml": "resources: [list.yaml]\n",
      "list.yaml": `apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: words}, data: {a: on, b: y}, immutable: true}
  - {apiVersion: example.org/v1, kind: Widget, metadata: {name: w}, spec: {mode: 0644, size: 1_000, big: 9007199254740993}}
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: tool, annotations: {config.kubernetes.io/local-config: "true"}}}
`,
    },
    expected: `apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {a: 'on', b: 'y'}
immutable: true
---
apiVersion: example.org/v1
kind: Widget
metadata: {name: w}
spec: {mode: 420, size: 1000, big: 9007199254740993}
`,
  },
];
