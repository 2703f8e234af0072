# A bucket for luxembourg's vault: a real object store in its cluster, outside of the operator's namespace.

STORE_ACCESS=vault
STORE_SECRET=a-key-of-the-tests

start_object_store() {
  "$TESTBED" binaries versitygw >/dev/null
  local folder; folder=$(mktemp -d)
  cp -L "$("$TESTBED" bin)/versitygw" /bin/busybox "$folder/"
  printf 'FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/mkdir\nCOPY versitygw /versitygw\nUSER 65532:65532\n' >"$folder/Dockerfile"
  "$TESTBED" load luxembourg "$("$TESTBED" image localhost/versitygw:e2e "$folder")"
  rm -rf "$folder"
  in_site luxembourg apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Namespace
metadata: {name: object-store}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: object-store, namespace: object-store}
spec:
  selector: {matchLabels: {app: object-store}}
  template:
    metadata: {labels: {app: object-store}}
    spec:
      securityContext: {fsGroup: 65532}
      containers:
      - name: gateway
        image: localhost/versitygw:e2e
        imagePullPolicy: Never
        command: [sh, -c, "mkdir -p /data/buckets /data/versions && exec /versitygw --quiet --port :7070 posix --versioning-dir /data/versions /data/buckets"]
        env: [{name: ROOT_ACCESS_KEY, value: $STORE_ACCESS}, {name: ROOT_SECRET_KEY, value: $STORE_SECRET}]
        readinessProbe: {tcpSocket: {port: 7070}, periodSeconds: 1}
        volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, emptyDir: {}}]
---
apiVersion: v1
kind: Service
metadata: {name: object-store, namespace: object-store}
spec:
  type: NodePort
  selector: {app: object-store}
  ports: [{port: 7070, nodePort: 30970}]
YAML
  in_site luxembourg -n object-store rollout status deployment/object-store --timeout=60s >/dev/null
}

# s3 METHOD PATH BODY [HEADER]: a request by whoever has the keys.
s3() {
  local digest; digest=$(printf %s "$3" | openssl dgst -sha256 -binary | base64)
  local hex; hex=$(printf %s "$3" | sha256sum | cut -d' ' -f1)
  curl -sS --fail-with-body -X "$1" "http://$("$TESTBED" address luxembourg):30970$2" --data-binary "$3" -H 'Content-Type: application/xml' \
    --aws-sigv4 aws:amz:us-east-1:s3 --user "$STORE_ACCESS:$STORE_SECRET" -H "x-amz-content-sha256: $hex" -H "x-amz-checksum-sha256: $digest" ${4:+-H "$4"}
}

make_bucket() { s3 PUT "/$1" '' 'x-amz-bucket-object-lock-enabled: true' >/dev/null; }
lock_bucket() {
  s3 PUT "/$1?object-lock=" "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>" >/dev/null
}

# install_vault_in BUCKET: luxembourg's operator with two vaults on it.
install_vault_in() {
  install_embassy luxembourg --set vault.replicas=2 --set vault.bucket.name="$1" --set vault.bucket.endpoint=http://object-store.object-store:7070 \
    --set vault.bucket.credentialsSecret=object-store
}
