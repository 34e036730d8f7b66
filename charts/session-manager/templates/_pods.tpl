{{/*
What the values say of a pod: the same for the four workloads and the test. The templates merge `pods` into the values of a component.
Everything that comes from values passes toYaml or quote, so that no character means anything to YAML.
*/}}

{{/* The metadata of pods: dict "ctx" . "component" NAME "values" VALUES, and perhaps "checksums" MAP. */}}
{{- define "sm.podMetadata" -}}
labels: {{- merge (include "sm.labels" . | fromYaml) (include "sm.strings" (.values.podLabels | default dict) | fromYaml) | include "sm.yaml" | nindent 2 }}
{{- with merge (dict) (.values.podAnnotations | default dict) (.checksums | default dict) }}
annotations: {{- include "sm.strings" . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
The spec of pods without containers and volumes: dict "ctx" . "component" NAME "values" VALUES "user" NUMBER, perhaps "init" LIST, and
"spread" true for pods that should be on different nodes and in different zones.
*/}}
{{- define "sm.podSpec" -}}
{{- $values := .values -}}
{{- $spec := dict "enableServiceLinks" false "securityContext" (include "sm.podSecurity" . | fromYaml) -}}
{{- range $key := list "affinity" "priorityClassName" "runtimeClassName" "tolerations" -}}
{{- with get $values $key }}{{ $_ := set $spec $key . }}{{ end -}}
{{- end -}}
{{- with $values.nodeSelector }}{{ $_ := set $spec "nodeSelector" (include "sm.strings" . | fromYaml) }}{{ end -}}
{{- with concat .ctx.Values.global.imagePullSecrets .ctx.Values.imagePullSecrets -}}
{{- $names := list -}}
{{- range . }}{{ $names = append $names (ternary (dict "name" .) . (kindIs "string" .)) }}{{ end -}}
{{- $_ := set $spec "imagePullSecrets" (uniq $names) -}}
{{- end -}}
{{- with include "sm.spread" . | fromYamlArray }}{{ $_ := set $spec "topologySpreadConstraints" . }}{{ end -}}
{{- $init := concat (.init | default list) ($values.initContainers | default list) -}}
{{- range $values.sidecars }}{{ $init = append $init (merge (dict "restartPolicy" "Always") .) }}{{ end -}}
{{- with $init }}{{ $_ := set $spec "initContainers" . }}{{ end -}}
{{- include "sm.yaml" $spec -}}
{{- end -}}

{{- define "sm.spread" -}}
{{- $selector := dict "matchLabels" (include "sm.selector" . | fromYaml) -}}
{{- $constraints := .values.topologySpreadConstraints | default list -}}
{{- if and .spread (not $constraints) -}}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" -}}
{{- $constraints = append $constraints (dict "maxSkew" 1 "topologyKey" . "whenUnsatisfiable" "ScheduleAnyway" "matchLabelKeys" (list "pod-template-hash")) -}}
{{- end -}}
{{- end -}}
{{- range $constraints }}
- {{ merge (dict) . (dict "labelSelector" $selector) | include "sm.yaml" | nindent 2 | trim }}
{{- end -}}
{{- end -}}

{{/* The level restricted. On OpenShift the cluster chooses user and groups. */}}
{{- define "sm.podSecurity" -}}
{{- $own := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") "fsGroupChangePolicy" "OnRootMismatch" -}}
{{- if not (include "sm.anyUser" .ctx) -}}
{{- $_ := merge $own (dict "runAsUser" .user "runAsGroup" .user "fsGroup" .user) -}}
{{- end -}}
{{- mergeOverwrite $own (.values.podSecurityContext | default dict) | include "sm.yaml" -}}
{{- end -}}
{{- define "sm.containerSecurity" -}}
{{- $own := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) -}}
{{- mergeOverwrite $own (.securityContext | default dict) | include "sm.yaml" -}}
{{- end -}}

{{/* The end of a container: dict "values" VALUES "env" OWN-YAML "mounts" OWN-YAML, perhaps "envFrom" LIST. */}}
{{- define "sm.container" -}}
{{- with concat (.envFrom | default list) (.values.extraEnvFrom | default list) }}
envFrom: {{- include "sm.yaml" . | nindent 2 }}
{{- end }}
{{- with include "sm.env" . | fromYamlArray }}
env: {{- include "sm.yaml" . | nindent 2 }}
{{- end }}
resources: {{- .values.resources | default dict | include "sm.yaml" | nindent 2 }}
securityContext: {{- include "sm.containerSecurity" .values | nindent 2 }}
{{- with concat (fromYamlArray .mounts) (.values.extraVolumeMounts | default list) }}
volumeMounts: {{- include "sm.yaml" . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Variables: those of the chart, then those of `env`, then those of `extraEnv`. A later one replaces an earlier one. */}}
{{- define "sm.env" -}}
{{- $env := dict -}}
{{- $order := list -}}
{{- range fromYamlArray .env -}}
{{- $_ := set $env .name . }}{{ $order = append $order .name -}}
{{- end -}}
{{- range $name, $value := .values.env | default dict -}}
{{- $entry := dict "name" $name "value" (include "sm.text" $value) -}}
{{- if kindIs "map" $value }}{{ $entry = merge (dict "name" $name) $value }}{{ end -}}
{{- $_ := set $env $name $entry }}{{ $order = append $order $name -}}
{{- end -}}
{{- range .values.extraEnv | default list -}}
{{- $_ := set $env .name . }}{{ $order = append $order .name -}}
{{- end -}}
{{- range uniq $order }}
- {{ get $env . | include "sm.yaml" | nindent 2 | trim }}
{{- end -}}
{{- end -}}

{{/* Volumes: dict "values" VALUES "volumes" OWN-YAML. */}}
{{- define "sm.volumes" -}}
{{- concat (fromYamlArray .volumes) (.values.extraVolumes | default list) | include "sm.yaml" -}}
{{- end -}}
