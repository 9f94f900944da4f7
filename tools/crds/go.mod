// Modules that are read only for the CustomResourceDefinitions they carry; nothing is built.
module stageset.local/tools/crds

go 1.26.0

require (
	istio.io/api v1.24.0
	sigs.k8s.io/gateway-api v1.4.0
)
