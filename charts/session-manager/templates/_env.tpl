{{/* Redis, for the front door and the operator. */}}
{{- define "sm.redisEnv" -}}
{{- $other := .Values.externalRedis -}}
{{- $secret := include "sm.redisSecret" . -}}
{{- if .Values.redis.enabled }}
- {name: REDIS_HOST, value: {{ include "sm.redis" . | quote }}}
- {name: REDIS_PORT, value: "6379"}
{{- else if $other.urlSecret }}
- {name: REDIS_URL, valueFrom: {secretKeyRef: {name: {{ $secret | quote }}, key: redis-url}}}
{{- else if or $other.tls $other.username }}
- name: REDIS_URL
  value: {{ printf "%s://%s@%s:%d" (ternary "rediss" "redis" $other.tls) $other.username $other.host (int $other.port) | quote }}
{{- else }}
- {name: REDIS_HOST, value: {{ $other.host | quote }}}
- {name: REDIS_PORT, value: {{ int $other.port | quote }}}
{{- end }}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $secret | quote }}, key: redis-password{{ if and $other.urlSecret (not .Values.redis.enabled) }}, optional: true{{ end }}}}
{{- end -}}

{{- define "sm.redisServerEnv" -}}
{{- $secret := include "sm.redisSecret" . | quote -}}
- {name: MAXMEMORY, value: {{ .Values.redis.maxmemory | quote }}}
- {name: REDIS_PASSWORD, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: redis-password}}}
# Of the probes.
- {name: REDISCLI_AUTH, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: redis-password}}}
- {name: KEDA_USERNAME, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: keda-username, optional: true}}}
- {name: KEDA_PASSWORD, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: keda-password, optional: true}}}
{{- end -}}

{{/* The database, for the front door. */}}
{{- define "sm.databaseEnv" -}}
{{- if .Values.postgresql.enabled }}
- name: SESSION_DB_URI
  value: {{ printf "postgresql://session_manager@%s:5432/sessions" (include "sm.postgres" .) | quote }}
- name: SESSION_DB_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "sm.postgresSecret" . | quote }}, key: postgres-password}}
# Only the front door reaches it, by a name of this namespace. It has no certificate.
- {name: SESSION_DB_PLAIN_HOSTS, value: {{ include "sm.postgres" . | quote }}}
{{- else if not (include "sm.sqlite" .) }}
{{- $secret := include "sm.databaseSecret" . | quote }}
- {name: SESSION_DB_URI, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: session-db-uri}}}
- {name: SESSION_DB_PASSWORD, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: session-db-password, optional: true}}}
{{- end }}
{{- end -}}

{{/* Settings on which the front door and the operator must agree. */}}
{{- define "sm.sessionsEnv" -}}
- {name: SESSIONS_NAMESPACE, value: {{ include "sm.sessionsNamespace" . | quote }}}
{{- with .Values.sessions.podCIDRs }}
- {name: POD_CIDRS, value: {{ join "," . | quote }}}
{{- end }}
- {name: IDLE_TIMEOUT, value: {{ include "sm.text" .Values.sessions.idleTimeoutSeconds | quote }}}
- {name: SESSION_TTL, value: {{ include "sm.text" .Values.sessions.ttlSeconds | quote }}}
- name: SESSION_MANAGER_URL
  value: {{ printf "http://%s.%s.svc:%d" (include "sm.name" .) .Release.Namespace (int .Values.frontDoor.service.port) | quote }}
- {name: USER_POD_IMAGE, value: {{ include "sm.image" (dict "ctx" . "image" .Values.defaultClass.image) | quote }}}
{{- if include "sm.anyUser" . }}
- {name: POD_USERS_ASSIGNED, value: "true"}
{{- end }}
- {name: USER_POD_PORT, value: {{ int .Values.defaultClass.port | quote }}}
{{- end -}}

{{/* All variables of the front door and of the operator that come from values of their own. */}}
{{- define "sm.doorEnv" -}}
{{- $door := .Values.frontDoor -}}
- {name: INSTANCE, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: SESSION_RUNTIME, value: kubernetes}
- name: INSTALL_ID
  value: {{ .Values.sessions.installId | default (printf "%s-%s" .Release.Namespace .Release.Name | trunc 63 | trimSuffix "-") | quote }}
{{- include "sm.redisEnv" . }}
{{- include "sm.databaseEnv" . }}
- {name: SESSION_API_KEYS, valueFrom: {secretKeyRef: {name: {{ include "sm.keySecret" . | quote }}, key: session-api-keys}}}
{{ include "sm.sessionsEnv" . }}
- {name: SHUTDOWN_DELAY, value: {{ int $door.shutdownDelaySeconds | quote }}}
- {name: SHUTDOWN_TIMEOUT, value: {{ int $door.shutdownTimeoutSeconds | quote }}}
- {name: LOG_LEVEL, value: {{ $door.logLevel | quote }}}
{{- with $door.trustedProxies }}
- {name: TRUSTED_PROXIES, value: {{ . | quote }}}
{{- end }}
{{- with .Values.backup.bucket }}
- {name: STORAGE_BUCKET, value: {{ . | quote }}}
- {name: BACKUP_SHUTDOWN_TIMEOUT, value: {{ int $.Values.backup.shutdownSeconds | quote }}}
{{- end }}
{{- end -}}
{{- define "sm.operatorEnv" -}}
- {name: INSTANCE, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
{{- include "sm.redisEnv" . }}
{{ include "sm.sessionsEnv" . }}
{{ include "sm.classEnv" . }}
- {name: SCALER, value: {{ .Values.scaler | quote }}}
{{- with .Values.keda.redisAddress | default (ternary (printf "%s.%s.svc:6379" (include "sm.redis" .) .Release.Namespace) "" .Values.redis.enabled) }}
- {name: KEDA_REDIS_ADDRESS, value: {{ . | quote }}}
{{- end }}
- {name: OPERATOR_PORT, value: "8081"}
- {name: LOG_LEVEL, value: {{ .Values.operator.logLevel | quote }}}
{{- end -}}
