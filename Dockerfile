# syntax=docker/dockerfile:1
# Multi-arch: docker buildx build --platform linux/amd64,linux/arm64 .
# Tags, because no digest of them could be looked up here: pin them (GO_IMAGE=…@sha256:…) before the first release. The workflow
# records what was used in its provenance.
ARG GO_IMAGE=golang:1.26-bookworm
ARG NODE_IMAGE=node:24-bookworm-slim

# The bundle and the WebAssembly are the same on every platform: built once, natively.
FROM --platform=$BUILDPLATFORM ${NODE_IMAGE} AS node
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=node /usr/local/lib/node_modules /usr/local/lib/node_modules
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY . .
RUN npm run build

# Node and the libraries it loads are the platform's own.
FROM ${NODE_IMAGE} AS root
WORKDIR /src
COPY --from=build /src/package.json ./
COPY --from=build /src/scripts/image-root.ts scripts/
COPY --from=build /src/config/crd config/crd
COPY --from=build /src/dist dist
RUN node scripts/image-root.ts --out /image

FROM scratch
LABEL org.opencontainers.image.title="stageset-controller" \
      org.opencontainers.image.description="Ships a release to a Kubernetes cluster as an ordered list of stages" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=root /image /
# Garbage is short-lived here: a small nursery saves 25 MB or more. No signal opens an inspector.
ENV NODE_OPTIONS="--max-semi-space-size=8 --disable-sigusr1"
# Keeps the C library from holding some 20 MB of free memory.
ENV MALLOC_ARENA_MAX=2 MALLOC_TRIM_THRESHOLD_=131072
USER 65532:65532
ENTRYPOINT ["/usr/bin/stageset-controller"]
