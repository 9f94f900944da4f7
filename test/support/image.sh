#!/bin/sh
# Runs the controller of an image's root file system as a container runtime would, in a network of its own:
#   ROOT DIR API_PORT NODE FORWARD ARGS…
# The environment is the image's, and PATH.
# DIR holds `secrets` (the ServiceAccount's files) and gets `log`, `pid`, `read-only` and the sockets of the forwarder.
set -e
root=$1 dir=$2 port=$3 node=$4 forward=$5
shift 5
ip link set lo up
# An address that is not loopback: artifacts may come from it.
ip addr add 10.99.0.1/32 dev lo
"$node" "$forward" "tcp:127.0.0.1:$port=unix:$dir/api.sock" "tcp:10.99.0.1:8000=unix:$dir/artifacts.sock" \
  "unix:$dir/gate.sock=tcp:127.0.0.1:8082" "unix:$dir/health.sock=tcp:127.0.0.1:8081" \
  "unix:$dir/metrics.sock=tcp:127.0.0.1:8080" >"$dir/forward.log" 2>&1 &
forwarder=$!
trap 'kill "$forwarder" 2>/dev/null' EXIT
secrets=$root/var/run/secrets/kubernetes.io/serviceaccount
mkdir -p "$root/run/stageset" "$root/etc/webhook/certs" "$secrets" "$root/proc" "$root/dev"
mount --bind "$root" "$root"
mount -t tmpfs -o size=256m,mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o size=64m,mode=0770,uid=65532,gid=65532 tmpfs "$root/run/stageset"
mount -t tmpfs -o size=1m,mode=0770,uid=65532,gid=65532 tmpfs "$root/etc/webhook/certs"
mount --bind "$dir/secrets" "$secrets"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -o remount,bind,ro "$root"
chroot=$(command -v chroot)
env -i "$chroot" --userspec=65532:65532 "$root" /usr/bin/node -e 'try { require("fs").writeFileSync("/written", ""); console.log("writable") } catch (e) { console.log(e.code) }' >"$dir/read-only"
env -u PATH -u PWD KUBERNETES_SERVICE_HOST=127.0.0.1 "KUBERNETES_SERVICE_PORT=$port" \
  HOSTNAME=stageset-controller-0 "$chroot" --userspec=65532:65532 "$root" "$@" 2>"$dir/log" &
controller=$!
echo "$controller" >"$dir/pid"
trap 'kill -TERM "$controller"' TERM
code=0
while kill -0 "$controller" 2>/dev/null; do
  code=0
  wait "$controller" || code=$?
done
exit "$code"
