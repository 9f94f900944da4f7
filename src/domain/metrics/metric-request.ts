import type { MetricSource } from "../../api/stage-set.ts";

/** What is asked for one number, and how the answer is to be read (spec 40 §3). */
export interface MetricRequest {
  readonly url: string;
  /** Secret of the StageSet's namespace whose entry `token` is sent along. */
  readonly secretName: string | undefined;
  readonly reads: { readonly kind: "prometheus" } | { readonly kind: "webhook"; readonly jsonPath: string };
}

/** The request a source stands for; undefined for one that validation (V22) refuses: no provider, two, or no URL. */
export function metricRequest({ prometheus, webhook }: MetricSource): MetricRequest | undefined {
  if (prometheus !== undefined && webhook === undefined) {
    const url = queryUrl(prometheus);
    if (url === undefined) return undefined;
    return { url, secretName: prometheus.secretRef?.name, reads: { kind: "prometheus" } };
  }
  if (webhook === undefined || prometheus !== undefined) return undefined;
  const { url, jsonPath, secretRef } = webhook;
  return { url, secretName: secretRef?.name, reads: { kind: "webhook", jsonPath } };
}

function queryUrl({ address, query }: NonNullable<MetricSource["prometheus"]>): string | undefined {
  const url = URL.parse(address);
  if (url === null) return undefined;
  url.pathname = `${url.pathname.replace(/\/+$/, "")}/api/v1/query`;
  url.searchParams.set("query", query);
  url.hash = "";
  return url.href;
}
