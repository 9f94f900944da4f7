import type { CertificateMetrics, CertificateSource, MissingPrerequisite } from "../certificates/certificate-source.ts";
import { watchCertificateFiles } from "../certificates/files.ts";
import { keepSelfSigned } from "../certificates/self-signed.ts";
import { hostAllowance } from "../domain/formats/host-glob.ts";
import { expressionsOf } from "../domain/validation/expressions.ts";
import { reviewFleetRollout } from "../domain/validation/fleet-rollout.ts";
import { reviewImageVerificationPolicy } from "../domain/validation/image-verification-policy.ts";
import { reviewStageSet } from "../domain/validation/validate-stored.ts";
import { parseStageSet } from "../api/stage-set.ts";
import { type Cel, compileAll } from "../engine/facts/cel.ts";
import { createAdmission, reviewChanges, type Reviewer } from "../http/admission.ts";
import { type AccessVerdict, breakGlassVerb, createBreakGlass } from "../http/break-glass.ts";
import { listen, type Listener } from "../http/server.ts";
import { isAllowed } from "../kube/access-review.ts";
import type { KubeClient } from "../kube/client.ts";
import { KubeError } from "../kube/error.ts";
import { apiGroup as group } from "../api/group.ts";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { Metrics } from "../observe/metrics.ts";
import type { Config, WebhookConfig } from "./config.ts";

/** Bodies above are answered 413 (spec 50 §7): the API server sends two objects of at most 3 MiB each. */
const maxBodyBytes = 7 * 1024 * 1024;
const accessReviewMs = 2_000;

export interface Webhook extends AsyncDisposable {
  readonly port: () => number | undefined;
  /** Listening with a certificate the API server trusts. */
  readonly isReady: () => boolean;
  readonly missing: () => readonly MissingPrerequisite[];
  /** Has API servers look for another replica, while requests are still answered. */
  drain(): void;
}

export interface WebhookOptions {
  readonly webhook: WebhookConfig;
  readonly config: Pick<Config, "crossNamespace" | "allowLoopback" | "allowedActionHosts">;
  /** Where the controller is installed, where that is known. */
  readonly namespace: string | undefined;
  /** Not guarded by the lease. */
  readonly client: KubeClient;
  readonly cel: Cel;
  readonly metrics: Metrics;
  /** Whether this replica may rotate the certificate. */
  readonly leads: () => boolean;
  /** The listener cannot be bound, which nothing mends. */
  readonly onFailed: (why: string) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Serves admission as soon as there is a certificate the API server trusts; what is missing until then stops nothing. */
export function startWebhook(options: WebhookOptions): Webhook {
  const { webhook, clock, metrics } = options;
  const logger = options.logger.with({ logger: "webhook" });
  const handler = createAdmission({ reviewers: reviewersOf(options), metrics: metrics.webhook, logger, clock });
  const certificates = certificateSource({ ...options, logger });
  let listener: Listener | undefined;
  let binding: Promise<void> | undefined;
  let stopped = false;
  const bind = async (): Promise<void> => {
    try {
      listener = await listen({
        host: webhook.host,
        port: webhook.port,
        handler,
        clock,
        logger,
        maxBodyBytes,
        tls: { pair: () => pairOf(certificates), subscribe: (changed) => certificates.subscribe(changed) },
      });
    } catch (error) {
      options.onFailed(
        `Cannot listen on ":${webhook.port}" for webhook: ${error instanceof Error ? error.message : ""}`,
      );
    }
  };
  const follow = certificates.subscribe(() => {
    metrics.webhook.notAfter.set({}, Math.floor((certificates.current()?.notAfter ?? 0) / 1_000));
    if (!stopped) binding ??= bind();
  });
  return {
    port: () => listener?.address.port,
    isReady: () => listener !== undefined && certificates.missing().length === 0,
    missing: () => certificates.missing(),
    drain: () => listener?.drain(),
    async [Symbol.asyncDispose]() {
      stopped = true;
      follow[Symbol.dispose]();
      await binding;
      await listener?.[Symbol.asyncDispose]();
      await certificates[Symbol.asyncDispose]();
    },
  };
}

function pairOf(certificates: CertificateSource): { readonly certPem: string; readonly keyPem: string } {
  const pair = certificates.current();
  if (pair === undefined) throw new Error("there is no certificate to serve");
  return pair;
}

function certificateSource(options: WebhookOptions): CertificateSource {
  const { webhook, client, clock, logger, leads } = options;
  const { certificate } = webhook;
  const metrics: CertificateMetrics = {
    renewalFailed: () => options.metrics.webhook.renewalFailures.add({}),
    read: (outcome) => {
      options.metrics.webhook.certificateReads.add({});
      if (outcome === "error") options.metrics.webhook.certificateReadErrors.add({});
    },
  };
  if (certificate.mode === "cert-manager")
    return watchCertificateFiles({ dir: certificate.dir, clock, logger, metrics });
  const { serviceName, configurationName, validityMs, secretName } = certificate;
  const serviceNamespace = certificate.serviceNamespace ?? options.namespace ?? "default";
  return keepSelfSigned({
    client,
    namespace: options.namespace ?? serviceNamespace,
    secretName,
    configurationName,
    names: [`${serviceName}.${serviceNamespace}.svc`, `${serviceName}.${serviceNamespace}.svc.cluster.local`],
    validityMs,
    leads,
    clock,
    logger,
    metrics,
  });
}

function reviewersOf(options: WebhookOptions): Readonly<Record<string, Reviewer>> {
  const { client, cel, webhook, clock } = options;
  const { crossNamespace, allowLoopback, allowedActionHosts } = options.config;
  const isAllowedHost = hostAllowance(allowedActionHosts);
  const hosts = isAllowedHost === undefined ? {} : { isAllowedHost };
  const stageSet: Reviewer = async ({ object, operation }, { signal }) => {
    const parsed = parseStageSet(object);
    const readable = parsed.kind === "valid" ? parsed.value : parsed.readable;
    const expressions = readable === undefined ? [] : [...expressionsOf(readable.spec)].map(({ text }) => text);
    const { problems, unknown } = await compileAll(cel, expressions, signal);
    if (unknown !== undefined) throw new Error(`cannot check expressions: ${unknown}`);
    return reviewStageSet(object, {
      crossNamespace,
      allowLoopback,
      ...hosts,
      checkName: operation === "CREATE",
      now: clock.now(),
      expressionProblem: (text) => problems.get(text),
    });
  };
  const breakGlass = createBreakGlass({
    mode: webhook.breakGlass,
    authorize: async (user, { namespace, name }, { signal }): Promise<AccessVerdict> => {
      const access = { verb: breakGlassVerb, group, resource: "stagesets", namespace, name };
      try {
        const allowed = await isAllowed(client, { user, access }, { signal, timeoutMs: accessReviewMs });
        return { kind: allowed ? "allowed" : "denied" };
      } catch (error) {
        if (!(error instanceof KubeError)) throw error;
        return { kind: "unknown", problem: error.reason };
      }
    },
  });
  return {
    "/validate-stages-metio-wtf-v1-stageset": reviewChanges(stageSet, ["suspend"]),
    "/validate-stages-metio-wtf-v1-imageverificationpolicy": reviewChanges(({ object }) =>
      reviewImageVerificationPolicy(object),
    ),
    "/validate-stages-metio-wtf-v1-fleetrollout": reviewChanges(({ object }) =>
      reviewFleetRollout(object, { allowLoopback, ...hosts }),
    ),
    "/validate-stages-metio-wtf-v1-break-glass": breakGlass,
  };
}
