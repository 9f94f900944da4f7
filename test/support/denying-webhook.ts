import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { at } from "../../src/lib/json.ts";
import { uniqueName, type TestCluster } from "./cluster.ts";

const run = promisify(execFile);

/** An admission webhook that refuses every ConfigMap of one namespace. */
export interface DenyingWebhook extends AsyncDisposable {
  /** Requests refused so far. */
  readonly refused: number;
  /** Takes the webhook out of the API server's way. */
  remove(): Promise<void>;
}

/** Serves on loopback with a certificate of its own, registered with the API server. */
export async function startDenyingWebhook(
  { admin }: TestCluster,
  { namespace, message }: { readonly namespace: string; readonly message: string },
): Promise<DenyingWebhook> {
  const { key, cert } = await selfSigned();
  let refused = 0;
  const server = createServer({ key, cert }, (incoming, outgoing) => {
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      refused++;
      const review: unknown = JSON.parse(Buffer.concat(chunks).toString());
      const status = { code: 403, reason: "Forbidden", message };
      const response = { uid: at(review, "request", "uid"), allowed: false, status };
      outgoing.writeHead(200, { "content-type": "application/json" });
      outgoing.end(JSON.stringify({ apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview", response }));
    });
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const ref = {
    apiVersion: "admissionregistration.k8s.io/v1",
    kind: "ValidatingWebhookConfiguration",
    metadata: { name: uniqueName("deny") },
  };
  await admin.create({
    ...ref,
    webhooks: [
      {
        name: "deny.example.com",
        admissionReviewVersions: ["v1"],
        sideEffects: "None",
        clientConfig: { url: `https://127.0.0.1:${port}/`, caBundle: Buffer.from(cert).toString("base64") },
        namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": namespace } },
        rules: [{ apiGroups: [""], apiVersions: ["v1"], resources: ["configmaps"], operations: ["CREATE", "UPDATE"] }],
      },
    ],
  });
  const remove = (): Promise<void> => admin.delete(ref);
  return {
    get refused() {
      return refused;
    },
    remove,
    async [Symbol.asyncDispose]() {
      await remove();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function selfSigned(): Promise<{ readonly key: string; readonly cert: string }> {
  const dir = await mkdtemp(join(tmpdir(), "webhook-"));
  try {
    const [keyFile, certFile] = [join(dir, "tls.key"), join(dir, "tls.crt")];
    const subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"];
    const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    await run("openssl", ["req", "-x509", ...kind, ...subject, "-keyout", keyFile, "-out", certFile]);
    return { key: await readFile(keyFile, "utf8"), cert: await readFile(certFile, "utf8") };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
