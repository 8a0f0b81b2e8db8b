{{/* What every container of ours is asked to connect to; the secret's names are those of the settings. */}}
{{- define "searchanything.index" }}
            - {name: HOME, value: /tmp}
            - {name: SEARCHANYTHING_MILVUS__URI, value: {{ .Values.milvus.uri | quote }}}
            - {name: SEARCHANYTHING_MILVUS__ALLOW_UNENCRYPTED, value: {{ .Values.milvus.allowUnencrypted | quote }}}
            - name: SEARCHANYTHING_MILVUS__TOKEN
              valueFrom: {secretKeyRef: {name: {{ .Values.secret }}, key: SEARCHANYTHING_MILVUS__TOKEN, optional: true}}
{{- end }}
{{- define "searchanything.images" }}
            - {name: SEARCHANYTHING_MODELS__PRESET, value: {{ .Values.models.preset | quote }}}
            - {name: SEARCHANYTHING_MODELS__WEIGHTS_DIR, value: /weights}
            - name: SEARCHANYTHING_MODELS__THREADS  # else one for each core of the node, which wait for each other
              valueFrom: {resourceFieldRef: {resource: limits.cpu}}
            {{- if .Values.storage.endpoint }}
            - {name: SEARCHANYTHING_STORAGE__ENDPOINT, value: {{ .Values.storage.endpoint | quote }}}
            {{- end }}
            - {name: SEARCHANYTHING_STORAGE__SECURE, value: {{ .Values.storage.secure | quote }}}
            {{- range list "SEARCHANYTHING_STORAGE__ACCESS_KEY" "SEARCHANYTHING_STORAGE__SECRET_KEY" }}
            - name: {{ . }}
              valueFrom: {secretKeyRef: {name: {{ $.Values.secret }}, key: {{ . }}, optional: true}}
            {{- end }}
{{- end }}
{{- define "searchanything.flows" }}
            - {name: PREFECT_API_URL, value: {{ .Values.ingest.prefectUrl | quote }}}
            - name: PREFECT_API_AUTH_STRING
              valueFrom: {secretKeyRef: {name: {{ .Values.secret }}, key: PREFECT_API_AUTH_STRING, optional: true}}
            - {name: PREFECT_FLOWS_HEARTBEAT_FREQUENCY, value: "30"}
{{- end }}
{{- define "searchanything.queue" }}
            - {name: SEARCHANYTHING_SERVICE__SCHEDULER, value: "tls://{{ .Release.Name }}-scheduler:8786"}
            - {name: SEARCHANYTHING_SERVICE__CLUSTER_KEY_FILE, value: /cluster/cluster.pem}
{{- end }}
{{- define "searchanything.pod" }}
      {{- if .Values.serviceAccount }}
      serviceAccountName: {{ .Values.serviceAccount }}
      {{- end }}
      automountServiceAccountToken: false
      enableServiceLinks: false  # else a service is a variable such as SEARCHANYTHING_SERVE_PORT, which looks like a setting
      securityContext: {runAsNonRoot: true, runAsUser: 10001, fsGroup: 10001, seccompProfile: {type: RuntimeDefault}}
{{- end }}
{{- define "searchanything.rights" -}}
securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
{{- end }}
{{- define "searchanything.weights" }}
        - name: weights
          {{- if .Values.models.weightsClaim }}
          persistentVolumeClaim: {claimName: {{ .Values.models.weightsClaim }}, readOnly: true}
          {{- else if ne .Values.models.preset "pico" }}
          {{- fail (printf "models.weightsClaim: expected a claim with the weights of %q: see values.yaml" .Values.models.preset) }}
          {{- else }}
          emptyDir: {}
          {{- end }}
{{- end }}
{{- define "searchanything.cluster" }}
        - {name: scratch, emptyDir: {}}
        - {name: cluster, secret: {secretName: {{ .Values.ingest.clusterSecret }}, defaultMode: 0440}}
{{- end }}
