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

{{/* A regular expression for the names of a list, in which an entry may end with *. */}}
{{- define "sm.pattern" -}}
{{- $parts := list -}}
{{- range . }}{{ $parts = append $parts (. | replace "." "[.]" | replace "*" ".*") }}{{ end -}}
^({{ join "|" $parts }})$
{{- end -}}

{{/* Names of admission policies are those of the whole cluster. */}}
{{- define "sm.policyName" -}}{{ printf "%s-%s-%s" (include "sm.name" .ctx) .ctx.Release.Namespace .of }}{{- end -}}

{{/* The beginning of a policy: dict "ctx" . "of" NAME, and perhaps "account" (a service account of the release). */}}
{{- define "sm.policy" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ include "sm.policyName" . }}
  labels: {{- include "sm.labels" (dict "ctx" .ctx "component" (include "sm.name" .ctx)) | nindent 4 }}
spec:
  policyName: {{ include "sm.policyName" . }}
  validationActions: [Deny]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ include "sm.policyName" . }}
  labels: {{- include "sm.labels" (dict "ctx" .ctx "component" (include "sm.name" .ctx)) | nindent 4 }}
spec:
  failurePolicy: Fail
  matchConditions:
    {{- with .account }}
    - name: account
      expression: request.userInfo.username == 'system:serviceaccount:{{ $.ctx.Release.Namespace }}:{{ . }}'
    {{- end }}
{{- end -}}
