{{- define "keyferry.name" -}}
{{- if contains "keyferry" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-keyferry" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "keyferry.labels" -}}
{{ include "keyferry.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "keyferry.selector" -}}
app.kubernetes.io/name: keyferry
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "keyferry.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* Of a pod: what all have. */ -}}
{{- define "keyferry.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Of a pod whose fellows should be on other machines; a dict of "root" and "part". */ -}}
{{- define "keyferry.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "keyferry.selector" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "keyferry.container" -}}
image: {{ include "keyferry.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{- /* Of a worker's container: what an object store asks for. */ -}}
{{- define "keyferry.credentials" -}}
{{- if and (eq .Values.spool.kind "object") .Values.spool.credentials }}
envFrom:
  - secretRef: {name: {{ .Values.spool.credentials }}}
{{- end }}
{{- end -}}

{{- /* Of a container: a dict of "root" and "host", what stands behind the pod's name in that of the host. Two containers
       of a pod number their processes alike: the owners of their leases must differ in the host. "keyless": it opens no
       addresses of tasks. */ -}}
{{- define "keyferry.env" -}}
{{- with .root -}}
- name: KEYFERRY_DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ .Values.secret.name }}, key: {{ .Values.secret.keys.databaseUrl }}}
- name: KEYFERRY_BROKER_URL
  valueFrom:
    secretKeyRef: {name: {{ .Values.secret.name }}, key: {{ .Values.secret.keys.brokerUrl }}}
{{- if not $.keyless }}
- name: KEYFERRY_SECRET_KEY
  valueFrom:
    secretKeyRef: {name: {{ .Values.secret.name }}, key: {{ .Values.secret.keys.secretKey }}}
{{- end }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: KEYFERRY_HOST
  value: $(POD_NAME){{ $.host }}
- name: KEYFERRY_STATE_DIR
  value: /var/lib/keyferry
- name: KEYFERRY_SPOOL_DIR
  value: /var/spool/keyferry
- name: KEYFERRY_SPOOL_SHARED
  value: {{ eq .Values.spool.kind "shared" | ternary "1" "0" | quote }}
{{- if eq .Values.spool.kind "object" }}
- name: KEYFERRY_SPOOL_URL
  value: {{ required "spool.kind object needs spool.url" .Values.spool.url | quote }}
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* A process is well while it beats, whatever broker and database do; it is ready once it takes work. */ -}}
{{- define "keyferry.probes" -}}
startupProbe:
  exec:
    command: [keyferry, health]
  periodSeconds: 5
  timeoutSeconds: 10
  failureThreshold: 60
livenessProbe:
  exec:
    command: [keyferry, health]
  periodSeconds: 30
  timeoutSeconds: 10
  failureThreshold: 3
readinessProbe:
  exec:
    command: [keyferry, health, --ready]
  periodSeconds: 15
  timeoutSeconds: 10
{{- end -}}

{{- define "keyferry.claim" -}}
{{ .Values.spool.existingClaim | default (printf "%s-spool" (include "keyferry.name" .)) }}
{{- end -}}

{{- define "keyferry.claimSpec" -}}
accessModes: [{{ eq .Values.spool.kind "shared" | ternary "ReadWriteMany" "ReadWriteOnce" }}]
{{- with .Values.spool.storageClass }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .Values.spool.size }}
{{- end -}}

{{- /* Files that URLs name, in every container, if there are any. */ -}}
{{- define "keyferry.certificatesMount" -}}
{{- if .Values.certificates.secret -}}
- {name: certificates, mountPath: /etc/keyferry/certificates, readOnly: true}
{{- end -}}
{{- end -}}

{{- define "keyferry.certificatesVolume" -}}
{{- with .Values.certificates.secret -}}
- name: certificates
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end -}}
{{- end -}}
