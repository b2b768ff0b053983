{{- define "eastgate.name" -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "eastgate.selector" -}}
app: {{ include "eastgate.name" . }}
istio: {{ .Values.gateway.label }}
{{- end }}

{{- define "eastgate.labels" -}}
{{ include "eastgate.selector" . }}
app.kubernetes.io/name: eastgate-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "eastgate.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "eastgate.name" .) }}
{{- end }}

{{- define "eastgate.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "eastgate.istiod" -}}
{{- $name := list "istiod" .Values.istiod.revision | compact | join "-" -}}
{{ .Values.istiod.address | default (printf "%s.%s.svc:15012" $name .Values.istiod.namespace) }}
{{- end }}

{{- define "eastgate.check" -}}
{{- if not .Values.cluster.id -}}
{{- fail "cluster.id is empty: say the name that istiod of this cluster has, as --set cluster.id=cluster1 (`istioctl remote-clusters` lists the names)" -}}
{{- end -}}
{{- if not .Values.cluster.network -}}
{{- fail "cluster.network is empty: say this cluster's network, as --set cluster.network=network1 (`kubectl get namespace istio-system --show-labels`: topology.istio.io/network)" -}}
{{- end -}}
{{- if eq .Values.image.tag "latest" -}}
{{- fail "image.tag is latest: kubelet would pull it at each start, also on a node that has it, and nobody could say what runs; name a version" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail (printf "autoscaling.minReplicas is %d and maxReplicas is %d: the first is more" (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (not (dig "requests" "cpu" "" .Values.resources)) -}}
{{- fail "autoscaling goes by percent of resources.requests.cpu, and that is empty: say it, or --set autoscaling.enabled=false" -}}
{{- end -}}
{{- if and .Values.service.loadBalancerIP (ne .Values.service.type "LoadBalancer") -}}
{{- fail (printf "service.loadBalancerIP is set and service.type is %s: only a LoadBalancer has one" .Values.service.type) -}}
{{- end -}}
{{- range .Values.extraArgs -}}
{{- if not (hasPrefix "--" .) -}}
{{- fail (printf "extraArgs: %q is no flag: each begins with -- and has its value behind =" .) -}}
{{- end -}}
{{- if regexMatch "^--(cluster-id|network|drain-time|status|metrics|discovery|node-id|state-dir|access-log|log-format|workers)(=|$)" . -}}
{{- fail (printf "extraArgs: %s is a flag that the chart sets itself from a value" (splitList "=" . | first)) -}}
{{- end -}}
{{- end -}}
{{- end }}
