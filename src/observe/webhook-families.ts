import type { Registry as PromRegistry, RegistryContentType } from "prom-client";
import type { Counter, Gauge, Histogram } from "../lib/telemetry.ts";
import { counter, gauge, histogram } from "./series.ts";

type Registry = PromRegistry<RegistryContentType>;

/** Families of the admission webhook and its certificate. */
export interface WebhookMetrics {
  readonly requests: Counter;
  readonly inFlight: Gauge;
  readonly latency: Histogram;
  readonly renewalFailures: Counter;
  /** Epoch seconds. */
  readonly notAfter: Gauge;
  readonly certificateReads: Counter;
  readonly certificateReadErrors: Counter;
}

const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export function webhookFamilies(registry: Registry): WebhookMetrics {
  const total = (name: string, help: string): Counter => {
    const made = counter(registry, { name, help, labels: [] });
    made.add({}, 0); // An alert sees the first failure as an increase.
    return made;
  };
  return {
    requests: counter(registry, {
      name: "controller_runtime_webhook_requests_total",
      help: "Admission requests by HTTP status",
      labels: ["webhook", "code"],
    }),
    inFlight: gauge(registry, {
      name: "controller_runtime_webhook_requests_in_flight",
      help: "Admission requests being answered",
      labels: ["webhook"],
    }),
    latency: histogram(registry, {
      name: "controller_runtime_webhook_latency_seconds",
      help: "Time to answer an admission request",
      labels: ["webhook"],
      buckets,
    }),
    renewalFailures: total(
      "stageset_webhook_cert_renewal_failures_total",
      "Failed attempts to renew the self-signed certificate or to have it trusted",
    ),
    notAfter: gauge(registry, {
      name: "stageset_webhook_cert_not_after_seconds",
      help: "When the served certificate expires, in seconds since 1970",
      labels: [],
    }),
    certificateReads: total("certwatcher_read_certificate_total", "Looks at the certificate of the webhook"),
    certificateReadErrors: total(
      "certwatcher_read_certificate_errors_total",
      "Looks at the certificate of the webhook that found none that can be used",
    ),
  };
}
