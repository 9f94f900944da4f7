/** An image as a container runtime reads it: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`. */
export interface ImageReference {
  /** Where the registry is asked for: Docker Hub's is `index.docker.io`. Lower case, with its port as it is dialled. */
  readonly registry: string;
  /** Path within the registry: `library/nginx`. */
  readonly repository: string;
  /** `latest` where neither tag nor digest is written. */
  readonly tag: string | undefined;
  /** `sha256:<hex>`. */
  readonly digest: string | undefined;
  /** Without tag and digest, in every spelling that globs are tried on: as written first. */
  readonly spellings: readonly string[];
}

const longest = 512;
const dockerHub = "index.docker.io";
const hubNames = ["docker.io", dockerHub, "registry-1.docker.io"];
const largestPort = 65_535;

// The grammar of github.com/distribution/reference, which container runtimes use.
const label = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
const host = new RegExp(String.raw`^(?:${label}(?:\.${label})*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$`);
const component = "[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*";
const path = new RegExp(`^${component}(?:/${component})*$`);
const tag = /^[\w][\w.-]{0,127}$/;
const digest = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;

/** Undefined: no container runtime takes it for an image either. */
export function parseImageReference(text: string): ImageReference | undefined {
  if (text.length > longest) return undefined;
  const hash = text.indexOf("@");
  const named = hash < 0 ? text : text.slice(0, hash);
  const digested = hash < 0 ? undefined : text.slice(hash + 1);
  if (digested !== undefined && !digest.test(digested)) return undefined;
  const colon = named.indexOf(":", named.lastIndexOf("/") + 1);
  const name = colon < 0 ? named : named.slice(0, colon);
  const tagged = colon < 0 ? undefined : named.slice(colon + 1);
  if (tagged !== undefined && !tag.test(tagged)) return undefined;
  const { domain, rest } = splitDomain(name);
  const written = (domain ?? dockerHub).toLowerCase();
  // A port of zeros and digits is dialled like the digits alone.
  const dialled = written.replace(/:0+(?=[0-9])/, ":");
  if (Number(/:([0-9]+)$/.exec(dialled)?.[1] ?? 0) > largestPort) return undefined;
  const registry = hubNames.includes(withoutPort(dialled)) ? dockerHub : dialled;
  const repository = registry === dockerHub && !rest.includes("/") ? `library/${rest}` : rest;
  if (!host.test(written) || !path.test(repository)) return undefined;
  return {
    registry,
    repository,
    tag: tagged ?? (digested === undefined ? "latest" : undefined),
    digest: digested,
    spellings: spellingsOf({ registry, repository, asWritten: domain === undefined ? rest : `${written}/${rest}` }),
  };
}

/** The first part of a name is a host when it looks like one; else the name is Docker Hub's. */
function splitDomain(name: string): { readonly domain: string | undefined; readonly rest: string } {
  const slash = name.indexOf("/");
  const first = slash < 0 ? "" : name.slice(0, slash);
  const isHost = /[.:]/.test(first) || first === "localhost" || first !== first.toLowerCase();
  return isHost ? { domain: first, rest: name.slice(slash + 1) } : { domain: undefined, rest: name };
}

function spellingsOf({
  registry,
  repository,
  asWritten,
}: {
  readonly registry: string;
  readonly repository: string;
  readonly asWritten: string;
}): readonly string[] {
  const spellings = [asWritten];
  if (registry === dockerHub) {
    const short = repository.startsWith("library/") ? repository.slice("library/".length) : undefined;
    // A path of several parts below library/ has no short form.
    const paths = short === undefined || short.includes("/") ? [repository] : [repository, short];
    for (const each of paths)
      spellings.push(each, ...hubNames.flatMap((name) => [`${name}/${each}`, `${name}:443/${each}`]));
  } else {
    const bare = withoutPort(registry).replace(/:80$/, "");
    spellings.push(`${registry}/${repository}`, `${bare}/${repository}`);
    // The port that is dialled where none is written.
    if (bare === registry) spellings.push(`${registry}:443/${repository}`);
  }
  return [...new Set(spellings)];
}

/** Without the port of HTTPS, which is dialled anyway. */
function withoutPort(registry: string): string {
  return registry.replace(/:443$/, "");
}

/** `repository@sha256:…` in the form other clients of registries use, so that none of them restarts pods (spec 50 §4.3). */
export function pinnedImage({ registry, repository }: ImageReference, to: string): string {
  return `${registry}/${repository}@${to}`;
}
