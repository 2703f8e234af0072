# A clock that jumps by a year, either way. The machine has one clock for both sites, so only the operator of one site sees the
# jump: a dynamically linked build of it under libfaketime. Its monotonic clock, its kubelet and its API server go on as they are.

CLOCK_IMAGE=localhost/data-embassy:clock

# An image of the operator in which the clock can be set by a file.
clock_image() {
  local folder binary faketime; folder=$(mktemp -d)
  command -v faketime >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends faketime >/dev/null || return 1
  faketime=$(dpkg -L libfaketime | grep 'libfaketime.so.1$')
  (cd "$REPOSITORY" && cargo build --quiet --locked --bin data-embassy) || return 1
  binary=$(cd "$REPOSITORY" && realpath "${CARGO_TARGET_DIR:-target}")/debug/data-embassy
  mkdir -p "$folder/root/lib64"
  strip -o "$folder/root/data-embassy" "$binary"
  cp -L "$faketime" "$folder/root/libfaketime.so.1"
  ldd "$binary" "$faketime" | awk '$1 ~ /ld-linux/ {print $1} $2 == "=>" {print $3}' | sort -u | xargs -I{} cp -L --parents {} "$folder/root"
  printf 'FROM scratch\nCOPY root /\nENTRYPOINT ["/data-embassy"]\n' >"$folder/Dockerfile"
  CLOCK_ARCHIVE=$("$TESTBED" image "$CLOCK_IMAGE" "$folder")
  rm -rf "$folder"
}

# The operator of SITE reads its clock from a file from now on.
own_clock() {
  local site=$1
  mkdir -p "$WITNESS/clock.$site"; chmod 755 "$WITNESS/clock.$site"; set_clock "$site" +0
  "$TESTBED" load "$site" "$CLOCK_ARCHIVE"
  in_site "$site" -n "$OPERATOR" patch deployment data-embassy-controller --patch-file /dev/stdin >/dev/null <<YAML
spec:
  template:
    spec:
      volumes: [{name: clock, hostPath: {path: $WITNESS/clock.$site, type: Directory}}]
      containers:
      - name: controller
        image: $CLOCK_IMAGE
        volumeMounts: [{name: clock, mountPath: /clock}]
        env:
        - {name: LD_PRELOAD, value: /libfaketime.so.1}
        - {name: FAKETIME_TIMESTAMP_FILE, value: /clock/offset}
        - {name: FAKETIME_CACHE_DURATION, value: "1"}
        - {name: FAKETIME_DONT_FAKE_MONOTONIC, value: "1"}
        - {name: DONT_FAKE_MONOTONIC, value: "1"}
YAML
  in_site "$site" -n "$OPERATOR" rollout status deployment/data-embassy-controller --timeout=120s >/dev/null
}
set_clock() { echo "$2" >"$WITNESS/clock.$1/offset"; }
# The operator's time, as it renews its lease.
operator_time() { in_site "$1" -n "$OPERATOR" get lease data-embassy-controller -o jsonpath='{.spec.renewTime}'; }

scenario_clock_jump() {
  local site jump
  clock_image || { check "an operator with a clock of its own" false; return 1; }
  for site in tallinn luxembourg; do
    check "the operator of $site has a clock of its own" own_clock "$site"
    in_step luxembourg tallinn
  done
  for site in tallinn luxembourg; do
    for jump in +365d -365d; do
      local before; before=$(number_in tallinn)/$(role tallinn)/$(role luxembourg)
      set_clock "$site" "$jump"
      sleep 20
      say "        the clock of $site by $jump: its operator takes it for $(operator_time "$site"); tallinn says $(reason tallinn PeerReachable), luxembourg $(reason luxembourg PeerReachable)"
      check "$site by $jump: the operator's clock did jump" test "$(date -d "$(operator_time "$site")" +%Y)" != "$(date +%Y)"
      check "$site by $jump: home writes on" wrote_after tallinn "$(awk -v n="$(now)" 'BEGIN {print n - 2}')"
      check "$site by $jump: no role and no epoch changes" equal "$(number_in tallinn)/$(role tallinn)/$(role luxembourg)" "$before"
      set_clock "$site" +0
      check "$site by $jump and back: in step again" in_step luxembourg tallinn
      check "$site by $jump and back: protected again" until_true 120 Protected has_condition tallinn Protected True
    done
  done
  check "a switch works" switch tallinn luxembourg
  check "and back home" switch luxembourg tallinn
  judge tallinn tallinn luxembourg
  REBUILD=1
}
