{{/* Names. That of the front door is used for its Deployment, its Service and the label app of its pods. */}}
{{- define "sm.name" -}}{{ .Values.fullnameOverride }}{{- end -}}
{{- define "sm.operator" -}}session-operator{{- end -}}
{{- define "sm.redis" -}}{{ include "sm.name" . }}-redis{{- end -}}
{{- define "sm.postgres" -}}{{ include "sm.name" . }}-postgres{{- end -}}
{{- define "sm.sessionsNamespace" -}}{{ .Values.sessions.namespace }}{{- end -}}

{{/* Labels of an object: dict "ctx" . "component" NAME. */}}
{{- define "sm.labels" -}}
app: {{ .component | quote }}
app.kubernetes.io/name: {{ .component | quote }}
app.kubernetes.io/instance: {{ .ctx.Release.Name | quote }}
app.kubernetes.io/part-of: session-manager
app.kubernetes.io/version: {{ .ctx.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .ctx.Chart.Name .ctx.Chart.Version | quote }}
{{- end -}}
{{- define "sm.selector" -}}
app: {{ .component | quote }}
app.kubernetes.io/instance: {{ .ctx.Release.Name | quote }}
{{- end -}}

{{/* The metadata of an object: dict "ctx" . "component" NAME, and perhaps "name", "namespace", "labels", "annotations". */}}
{{- define "sm.metadata" -}}
name: {{ .name | default .component | quote }}
namespace: {{ .namespace | default .ctx.Release.Namespace | quote }}
labels: {{- merge (include "sm.strings" (.labels | default dict) | fromYaml) (include "sm.labels" . | fromYaml) | toYaml | nindent 2 }}
{{- with .annotations }}
annotations: {{- include "sm.strings" . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A value as text. YAML in values turns 0.1.0 into text, but 10000000 into a number that Go prints as 1e+07. */}}
{{- define "sm.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ printf "%.0f" . }}{{ else }}{{ toString . }}{{ end -}}
{{- end -}}
{{/* YAML of a value. toYaml prints nothing at all, not even the security of a pod, if one of its texts cannot be written. */}}
{{- define "sm.yaml" -}}
{{- $yaml := toYaml . -}}
{{- if not $yaml }}{{ fail "a value below pods, frontDoor, operator, redis or postgresql contains a control character, which YAML cannot hold" }}{{ end -}}
{{- $yaml -}}
{{- end -}}
{{/* A map whose values are all text, as labels, annotations and selectors need. */}}
{{- define "sm.strings" -}}
{{- range $key, $value := . }}
{{ $key | quote }}: {{ include "sm.text" $value | quote }}
{{- end }}
{{- end -}}

{{/* An image: dict "ctx" . "image" (a map with repository, tag and digest, or a reference). */}}
{{- define "sm.image" -}}
{{- with .ctx.Values.global.imageRegistry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- if kindIs "string" .image }}{{ .image }}
{{- else if .image.digest }}{{ .image.repository }}@{{ .image.digest }}
{{- else }}{{ .image.repository }}:{{ .image.tag | default .ctx.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* What a claim asks for: dict "ctx" . "persistence" VALUES. */}}
{{- define "sm.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .persistence.storageClassName | default .ctx.Values.global.storageClass }}
storageClassName: {{ . | quote }}
{{- end }}
resources: {requests: {storage: {{ .persistence.size | quote }}}}
{{- end -}}

{{/* "true" if the database is SQLite on a volume. */}}
{{- define "sm.sqlite" -}}
{{- if not (or .Values.postgresql.enabled .Values.database.uri .Values.database.existingSecret) -}}true{{- end -}}
{{- end -}}

{{- define "sm.keda" -}}
{{- if and (eq .Values.scaler "keda") (.Capabilities.APIVersions.Has "keda.sh/v1alpha1") -}}true{{- end -}}
{{- end -}}

{{/* "true" if the cluster chooses the users of pods, as OpenShift does. */}}
{{- define "sm.anyUser" -}}
{{- $said := toString .Values.openshift -}}
{{- if or (eq $said "true") (and (eq $said "auto") (.Capabilities.APIVersions.Has "security.openshift.io/v1")) -}}true{{- end -}}
{{- end -}}

{{/*
The values of volumes that no StorageClass will provide. Asks the cluster only where the release installs CRDs, since an account that may
do that may also list StorageClasses. Without a cluster, as with --dry-run, nothing is found, not even the namespace kube-system.
*/}}
{{- define "sm.noStorage" -}}
{{- if and .Values.crds.install (lookup "v1" "Namespace" "" "kube-system") -}}
{{- $default := "" -}}
{{- range (lookup "storage.k8s.io/v1" "StorageClass" "" "").items -}}
{{- if eq "true" (dig "annotations" "storageclass.kubernetes.io/is-default-class" "" .metadata) }}{{ $default = .metadata.name }}{{ end -}}
{{- end -}}
{{- $used := dict "redis" .Values.redis.enabled "postgresql" .Values.postgresql.enabled "frontDoor" (include "sm.sqlite" .) -}}
{{- range $of, $on := $used -}}
{{- if and $on (not $default) (not $.Values.global.storageClass) (not (get $.Values $of).persistence.storageClassName) }} {{ $of }}.persistence{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
