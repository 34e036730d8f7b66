{{/* The Secrets of the service, which no class may use: a list in JSON. */}}
{{- define "sm.reservedSecrets" -}}
{{- $names := list (include "sm.redisSecret" .) (include "sm.postgresSecret" .) (include "sm.keySecret" .) (include "sm.databaseSecret" .) (include "sm.kedaSecret" .) .Values.externalRedis.urlSecret .Values.backup.existingSecret -}}
{{- $names | compact | uniq | sortAlpha | toJson -}}
{{- end -}}

{{/* What classes may use, for the operator. */}}
{{- define "sm.classEnv" -}}
{{- $lists := dict "ALLOWED_SECRETS" .Values.sessions.allowedSecrets "ALLOWED_LABELS" .Values.sessions.allowedLabels "ALLOWED_ANNOTATIONS" .Values.sessions.allowedAnnotations "ALLOWED_RUNTIME_CLASSES" .Values.sessions.allowedRuntimeClasses "ALLOWED_PRIORITY_CLASSES" .Values.sessions.allowedPriorityClasses -}}
- name: RESERVED_SECRETS
  value: {{ include "sm.reservedSecrets" . | fromJsonArray | join "," | quote }}
{{- range $name, $list := $lists }}
{{- with $list }}
- name: {{ $name }}
  value: {{ join "," . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* "true" if the cluster has ValidatingAdmissionPolicies and the values want them. */}}
{{- define "sm.admissionPolicy" -}}
{{- if and .Values.admissionPolicy.enabled (semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version) -}}true{{- end -}}
{{- end -}}

{{- define "sm.checkSessions" -}}
{{- range include "sm.reservedSecrets" . | fromJsonArray -}}
{{- if has . $.Values.sessions.allowedSecrets -}}
{{- fail (printf "sessions.allowedSecrets: %s is a Secret of the service; name the Secrets of agents only" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
