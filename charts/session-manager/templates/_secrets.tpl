{{/* Names of Secrets: those that the values name, or the release's own. */}}
{{- define "sm.redisSecret" -}}
{{- if .Values.redis.enabled -}}{{ .Values.redis.existingSecret | default "redis-credentials" }}
{{- else -}}{{ .Values.externalRedis.urlSecret | default .Values.externalRedis.existingSecret | default "redis-credentials" }}{{- end -}}
{{- end -}}
{{- define "sm.postgresSecret" -}}{{ .Values.postgresql.existingSecret | default "postgres-credentials" }}{{- end -}}
{{- define "sm.keySecret" -}}{{ .Values.apiKeys.existingSecret | default "session-manager-key" }}{{- end -}}
{{- define "sm.databaseSecret" -}}{{ .Values.database.existingSecret | default "session-db" }}{{- end -}}

{{/* The Secret with which KEDA reads Redis, in the namespace of the ScaledObjects. */}}
{{- define "sm.kedaSecret" -}}
{{- if .Values.keda.existingSecret -}}{{ .Values.keda.existingSecret }}
{{- else if and (eq (include "sm.sessionsNamespace" .) .Release.Namespace) .Values.redis.enabled .Values.redis.existingSecret -}}{{ .Values.redis.existingSecret }}
{{- else -}}session-manager-redis-keda{{- end -}}
{{- end -}}

{{/* The present value of a Secret, or a random one that stays the same within a rendering: dict "ctx" . "name" SECRET "key" KEY. */}}
{{- define "sm.generated" -}}
{{- $cache := .ctx.Values.generated | default dict -}}
{{- $id := printf "%s/%s" .name .key -}}
{{- if not (hasKey $cache $id) -}}
{{- $found := lookup "v1" "Secret" .ctx.Release.Namespace .name | default dict -}}
{{- $value := dig "data" .key "" $found | b64dec | default (randAlphaNum 32) -}}
{{- $_ := set $cache $id $value -}}
{{- $_ := set .ctx.Values "generated" $cache -}}
{{- end -}}
{{- get $cache $id -}}
{{- end -}}

{{/* Passwords: from the values, or generated. One that is derived from another changes with it, and does not reveal it. */}}
{{- define "sm.redisPassword" -}}
{{- .Values.redis.password | default (include "sm.generated" (dict "ctx" . "name" "redis-credentials" "key" "redis-password")) -}}
{{- end -}}
{{- define "sm.kedaPassword" -}}
{{- if .Values.redis.password -}}{{ derivePassword 1 "maximum" .Values.redis.password "keda" "redis" }}
{{- else -}}{{ include "sm.generated" (dict "ctx" . "name" "redis-credentials" "key" "keda-password") }}{{- end -}}
{{- end -}}
{{- define "sm.metricsKey" -}}
{{- if .Values.apiKeys.key -}}{{ derivePassword 1 "long" .Values.apiKeys.key "metrics" "session-manager" | sha256sum | trunc 32 }}
{{- else -}}{{ include "sm.generated" (dict "ctx" . "name" (include "sm.keySecret" .) "key" "metrics-key") }}{{- end -}}
{{- end -}}

{{/*
The end of a generated Secret: dict "given" VALUE. It is immutable, so that a rendering without the cluster, which cannot read the
present password, is refused instead of replacing it. Uninstall keeps it, as it keeps the volumes.
*/}}
{{- define "sm.kept" -}}
{{- if not .given }}
immutable: true
{{- end }}
type: Opaque
{{- end -}}

{{/*
An annotation that changes when a password changes, so that pods restart: dict "ctx" . "secrets" NAMES "given" PASSWORDS. Empty ones do
not count. It is short, so that it does not help to guess a password. Generated passwords are not in it: they do not change.
*/}}
{{- define "sm.secretSum" -}}
{{- $seen := compact .given -}}
{{- if or $seen (compact .secrets) -}}
{{- range compact .secrets -}}
{{- $found := lookup "v1" "Secret" $.ctx.Release.Namespace . | default dict -}}
{{- $seen = append $seen (dig "data" dict $found) -}}
{{- end -}}
checksum/secrets: {{ toJson $seen | sha256sum | trunc 5 | quote }}
{{- end -}}
{{- end -}}
