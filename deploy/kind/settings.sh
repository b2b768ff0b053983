# shellcheck shell=bash disable=SC2034
# Names, addresses and images of the two clusters; sourced by the scripts beside it. Each variable that begins with
# EASTGATE_KIND_ may be set from outside. What differs on a machine without a registry is set there and nowhere else.

VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' "$HERE/../../pyproject.toml")
CLUSTERS=(cluster1 cluster2)
declare -A NETWORK=([cluster1]=network1 [cluster2]=network2)
declare -A REGION=([cluster1]=region1 [cluster2]=region2)
declare -A POD_SUBNET=([cluster1]=10.241.0.0/16 [cluster2]=10.242.0.0/16)
declare -A SERVICE_SUBNET=([cluster1]=10.111.0.0/16 [cluster2]=10.112.0.0/16)
# Last two parts of the load balancer's address in the network of kind's nodes.
declare -A ADDRESS=([cluster1]=200.1 [cluster2]=200.2)

# The image of the gateways; `make image` or `make docker-image` makes it, `up` loads it.
IMAGE=${EASTGATE_KIND_IMAGE:-eastgate:$VERSION}
# Istio's sidecar image with eastgate in it (`make docker-image TARGET=proxyv2`), for --sidecars eastgate.
SIDECAR_IMAGE=${EASTGATE_KIND_SIDECAR_IMAGE:-eastgate/proxyv2:$VERSION}
# Any image with python3: echo and client are scripts in ConfigMaps.
APP_IMAGE=${EASTGATE_KIND_APP_IMAGE:-docker.io/library/python:3.12-slim}
# Archives to load besides: where nodes can pull nothing.
read -r -a ARCHIVES <<<"${EASTGATE_KIND_ARCHIVES:-}"
# Further words for `istioctl install`, as `--set hub=localhost/lab --set tag=dev`.
read -r -a ISTIO_FLAGS <<<"${EASTGATE_KIND_ISTIO_FLAGS:-}"
# kind's configuration; names in capitals are filled in.
KIND_CONFIG=${EASTGATE_KIND_CONFIG:-$HERE/kind.yaml}
NODE_IMAGE=${EASTGATE_KIND_NODE_IMAGE:-}
# docker or podman, whichever there is.
ENGINE=${EASTGATE_KIND_ENGINE:-}
# Kubeconfig, certificates, and what is known of a run.
STATE=${EASTGATE_KIND_STATE:-$HOME/.cache/eastgate-kind}
MESH=mesh1
GATEWAY=istio-eastwestgateway
GATEWAY_NAMESPACE=gateway
