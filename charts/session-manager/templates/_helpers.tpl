{{/* Names. That of the front door is used for its Deployment, its Service and the label app of its pods. */}}
{{- define "sm.name" -}}{{ .Values.fullnameOverride }}{{- end -}}
{{- define "sm.operator" -}}session-operator{{- end -}}
{{- define "sm.redis" -}}{{ include "sm.name" . }}-redis{{- end -}}
{{- define "sm.postgres" -}}{{ include "sm.name" . }}-postgres{{- end -}}
{{- define "sm.sessionsNamespace" -}}{{ .Values.sessions.namespace | default .Release.Namespace }}{{- end -}}

{{/* Labels of an object: dict "ctx" . "component" NAME. */}}
{{- define "sm.labels" -}}
app: {{ .component }}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/instance: {{ .ctx.Release.Name }}
app.kubernetes.io/part-of: session-manager
app.kubernetes.io/version: {{ .ctx.Chart.AppVersion | quote }}
helm.sh/chart: {{ .ctx.Chart.Name }}-{{ .ctx.Chart.Version }}
{{- end -}}
{{- define "sm.selector" -}}
app: {{ .component }}
app.kubernetes.io/instance: {{ .ctx.Release.Name }}
{{- end -}}

{{- define "sm.image" -}}{{ .image.repository }}:{{ .image.tag | default .ctx.Chart.AppVersion }}{{- end -}}

{{/* Secrets: generated, or named by the values. */}}
{{- define "sm.redisSecret" -}}
{{- if .Values.redis.enabled -}}{{ .Values.redis.existingSecret | default "redis-credentials" }}
{{- else -}}{{ .Values.externalRedis.existingSecret | default "redis-credentials" }}{{- end -}}
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

{{/* "true" if the database is SQLite on a volume. */}}
{{- define "sm.sqlite" -}}
{{- if not (or .Values.postgresql.enabled .Values.database.uri .Values.database.existingSecret) -}}true{{- end -}}
{{- end -}}

{{- define "sm.keda" -}}
{{- if and (eq .Values.scaler "keda") (.Capabilities.APIVersions.Has "keda.sh/v1alpha1") -}}true{{- end -}}
{{- end -}}

{{/* Pod and container security of the level restricted. */}}
{{- define "sm.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}
{{- define "sm.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The address of Redis, for the front door and the operator. */}}
{{- define "sm.redisEnv" -}}
{{- if and (not .Values.redis.enabled) .Values.externalRedis.urlSecret }}
- name: REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.externalRedis.urlSecret }}, key: redis-url}}
{{- else }}
- name: REDIS_HOST
  value: {{ ternary (include "sm.redis" .) .Values.externalRedis.host .Values.redis.enabled | quote }}
- name: REDIS_PORT
  value: {{ ternary 6379 (int .Values.externalRedis.port) .Values.redis.enabled | quote }}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "sm.redisSecret" . }}, key: redis-password}}
{{- end }}
{{- end -}}

{{/* Settings on which the front door and the operator must agree. */}}
{{- define "sm.sessionsEnv" -}}
- name: SESSIONS_NAMESPACE
  value: {{ include "sm.sessionsNamespace" . | quote }}
{{- with .Values.sessions.podCIDRs }}
- name: POD_CIDRS
  value: {{ join "," . | quote }}
{{- end }}
- name: IDLE_TIMEOUT
  value: {{ .Values.sessions.idleTimeoutSeconds | toString | quote }}
- name: SESSION_TTL
  value: {{ .Values.sessions.ttlSeconds | toString | quote }}
- name: SESSION_MANAGER_URL
  value: http://{{ include "sm.name" . }}.{{ .Release.Namespace }}.svc:{{ .Values.frontDoor.service.port }}
- name: USER_POD_IMAGE
  value: {{ include "sm.image" (dict "ctx" . "image" .Values.defaultClass.image) | quote }}
- name: USER_POD_PORT
  value: {{ .Values.defaultClass.port | toString | quote }}
{{- end -}}

{{- define "sm.moreEnv" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end -}}

{{- define "sm.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Checks that a schema cannot express. */}}
{{- define "sm.check" -}}
{{- if not .Values.redis.enabled -}}
{{- if not (or .Values.externalRedis.host .Values.externalRedis.urlSecret) -}}
{{- fail "redis.enabled is false: set externalRedis.host (with a password) or externalRedis.urlSecret" -}}
{{- end -}}
{{- if and .Values.externalRedis.tls (not .Values.externalRedis.urlSecret) -}}
{{- fail "externalRedis.tls: put rediss://… into a Secret with the key redis-url and name it in externalRedis.urlSecret" -}}
{{- end -}}
{{- if and (include "sm.keda" .) (not .Values.keda.existingSecret) -}}
{{- fail "scaler keda with an external Redis: name a Secret with keda-username and keda-password in keda.existingSecret, or use scaler: native" -}}
{{- end -}}
{{- else if and .Values.redis.existingSecret (include "sm.keda" .) (not .Values.keda.existingSecret) (ne (include "sm.sessionsNamespace" .) .Release.Namespace) -}}
{{- fail "redis.existingSecret with sessions in another namespace: name a Secret there with keda-username and keda-password in keda.existingSecret" -}}
{{- end -}}
{{- end -}}
