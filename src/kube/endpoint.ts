/** Where one cluster's API server is and how it is known to be the right one. */
export interface ClusterEndpoint {
  /** Names the cluster in every cache, watch and inventory key: equal keys are the same cluster. */
  readonly key: string;
  /** An URL; a path in it is a prefix of every request's. */
  readonly server: string;
  /** Absent: the system's roots. */
  readonly caPem?: string;
  readonly tlsServerName?: string;
  readonly insecureSkipTlsVerify?: boolean;
  /** An HTTP or HTTPS proxy. */
  readonly proxyUrl?: string;
}
