{{/* Checks that a schema cannot express, or for which helm would print a pattern instead of a sentence. */}}
{{- define "sm.check" -}}
{{- include "sm.checkDatabase" . -}}
{{- include "sm.checkRedis" . -}}
{{- if not (regexMatch "^([!-+\\--~]{16,})?$" .Values.apiKeys.key) -}}
{{- fail "apiKeys.key is not a key; expected 16 or more visible ASCII characters without a comma, for example the output of openssl rand -hex 24" -}}
{{- end -}}
{{- include "sm.checkEnv" (dict "ctx" . "of" "frontDoor") -}}
{{- include "sm.checkEnv" (dict "ctx" . "of" "operator") -}}
{{- range $of := list "frontDoor" "operator" "redis" "postgresql" -}}
{{- $values := get $.Values $of -}}
{{- range $kind := list "requests" "limits" -}}
{{- range $name, $amount := dig $kind dict ($values.resources | default dict) -}}
{{- include "sm.checkQuantity" (dict "path" (printf "%s.resources.%s.%s" $of $kind $name) "value" $amount "memory" (ne $name "cpu")) -}}
{{- end -}}
{{- end -}}
{{- with $values.persistence -}}
{{- include "sm.checkQuantity" (dict "path" (printf "%s.persistence.size" $of) "value" .size "memory" true) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) -}}
{{- fail "gateway.enabled is true, but gateway.parentRefs names no Gateway; expected for example [{name: my-gateway}]" -}}
{{- end -}}
{{- with .Values.frontDoor.autoscaling -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail (printf "frontDoor.autoscaling.minReplicas (%d) is above maxReplicas (%d)" (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "sm.checkDatabase" -}}
{{- if and (include "sm.sqlite" .) (or (gt (int .Values.frontDoor.replicas) 1) .Values.frontDoor.autoscaling.enabled) -}}
{{- fail "without PostgreSQL the database is SQLite on one volume, which only one front door may write: set frontDoor.replicas to 1 and frontDoor.autoscaling.enabled to false, or set database.uri, database.existingSecret or postgresql.enabled" -}}
{{- end -}}
{{- end -}}

{{- define "sm.checkRedis" -}}
{{- if not .Values.redis.enabled -}}
{{- if not (or .Values.externalRedis.host .Values.externalRedis.urlSecret) -}}
{{- fail "redis.enabled is false: set externalRedis.host (with a password) or externalRedis.urlSecret" -}}
{{- end -}}
{{- if and (include "sm.keda" .) (not .Values.keda.existingSecret) -}}
{{- fail "scaler keda with an external Redis: name a Secret with keda-username and keda-password in keda.existingSecret, or use scaler: native" -}}
{{- end -}}
{{- else if and .Values.redis.existingSecret (include "sm.keda" .) (not .Values.keda.existingSecret) (ne (include "sm.sessionsNamespace" .) .Release.Namespace) -}}
{{- fail "redis.existingSecret with sessions in another namespace: name a Secret there with keda-username and keda-password in keda.existingSecret" -}}
{{- end -}}
{{- end -}}

{{/* Variables in `env` are settings that no other value sets: files/settings.json lists them, and the value to use instead. */}}
{{- define "sm.checkEnv" -}}
{{- $known := .ctx.Files.Get "files/settings.json" | fromJson -}}
{{- $allowed := get $known .of -}}
{{- range $name, $value := get (get .ctx.Values .of) "env" | default dict -}}
{{- with get $known.elsewhere $name -}}
{{- fail (printf "%s.env.%s: this variable is set by the chart; %s" $.of $name .) -}}
{{- end -}}
{{- if not (has $name $allowed) -}}
{{- $near := list -}}
{{- range $allowed }}{{ if hasPrefix (first (splitList "_" $name)) . }}{{ $near = append $near . }}{{ end }}{{ end -}}
{{- $hint := ternary (printf ", which has %s" (join ", " $near)) "" (gt (len $near) 0) -}}
{{- fail (printf "%s.env.%s: there is no such setting; expected one of docs/settings.md%s. Variables for libraries belong into %s.extraEnv" $.of $name $hint $.of) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A quantity of Kubernetes: dict "path" PATH "value" VALUE "memory" whether a thousandth of it makes no sense. */}}
{{- define "sm.checkQuantity" -}}
{{- $text := include "sm.text" .value -}}
{{- $example := ternary "512Mi or 2Gi" "500m or 2" .memory -}}
{{- if not (regexMatch "^([0-9]+|[0-9]*\\.[0-9]+|[0-9]+\\.)([munkMGTPE]|[KMGTPE]i|[eE][-+]?[0-9]+)?$" $text) -}}
{{- fail (printf "%s: %q is not a quantity of Kubernetes; expected for example %s" .path $text $example) -}}
{{- end -}}
{{- if and .memory (regexMatch "[mun]$" $text) -}}
{{- fail (printf "%s: %q is less than a byte, since the suffix m means a thousandth; expected for example %s" .path $text $example) -}}
{{- end -}}
{{- end -}}
