# A person who attests what is not so.

# restored_from_vault SITE FOLDER: the newest Final point of that site's epoch, brought back from the vault by our own mover.
restored_from_vault() {
  local site=$1 folder=$2 point epoch secret digest
  point=$(in_site luxembourg -n "$NAMESPACE" get recoverypoint -o json | jq --arg site "$site" '[.items[] | select(.spec.consistency == "Final" and (.spec.epoch | endswith("/" + $site)))] | sort_by(.spec.cutTime) | last')
  epoch=$(jq -r .spec.epoch <<<"$point" | tr / -)
  digest=$(printf '%s/%s' "$NAMESPACE" "$NAME" | sha256sum | cut -c1-16)
  mkdir -p "$folder"/{credentials,volumes/data-writer-0,scratch}
  secret=$(in_site luxembourg -n "$OPERATOR" get secret data-embassy-client-tls -o json)
  jq -r '.data["mover.crt"]' <<<"$secret" | base64 -d >"$folder/credentials/tls.crt"
  jq -r '.data["mover.key"]' <<<"$secret" | base64 -d >"$folder/credentials/tls.key"
  in_site luxembourg -n "$OPERATOR" get secret data-embassy-authority -o json | jq -r '.data["tls.crt"]' | base64 -d >"$folder/credentials/ca.crt"
  in_site "$site" -n "$OPERATOR" get secret "data-embassy-repository-$digest-$epoch" -o json | jq -r '.data["repository-key"]' | base64 -d >"$folder/credentials/repository-key"
  "$BINARIES/data-embassy" mover restore --vault="https://$("$TESTBED" address luxembourg):30443" --repository="$NAMESPACE/$NAME/$epoch" \
    --credentials="$folder/credentials" --volumes="$folder/volumes" --scratch="$folder/scratch" --termination-log="$folder/outcome" \
    --snapshot="$(jq -r .spec.snapshot <<<"$point")" --content-digest="$(jq -r .spec.contentDigest <<<"$point")" \
    --bytes="$(jq -r .spec.bytes <<<"$point")" --files="$(jq -r .spec.files <<<"$point")" --claim=data-writer-0 --full-compare
}

scenario_false_attestation() {
  local forced cut healed gone audit start before
  "$TESTBED" cut tallinn
  forced=$(now)
  check "luxembourg takes over on a false word: home is cut off and alive" within 100 take_over luxembourg
  cut=$(origin luxembourg)
  check "luxembourg writes" until_true 30 "a write" wrote_after luxembourg "$forced"
  sleep 5
  check "home writes too, as was to be expected" wrote_after tallinn "$(awk -v n="$(now)" 'BEGIN {print n - 2}')"
  audit=$("$TESTBED" audit tallinn); start=$(stat -c %s "$audit")
  "$TESTBED" heal tallinn; healed=$(now)
  at_role 120 tallinn Fenced "$healed" || { check "home fences itself" false; return 1; }
  gone=$(saw tallinn Fenced "$healed")
  check "home fences itself and keeps what it has" until_true 120 Diverged has_role tallinn Diverged
  local last; last=$(last_write tallinn)
  say "        from the healed link: fence on record after $(awk -v a="$healed" -v b="$gone" 'BEGIN {printf "%.1f", b - a}') s, home's last write after $(awk -v a="$healed" -v b="$last" 'BEGIN {printf "%.1f", b - a}') s"
  # Before the record that fences it, home's operator may end one reconcile that began before the news could be read: one status.
  before=$(python3 "$SUITE/strike.py" writes "$audit" "$NAMESPACE" "$start" | sed '/update failoverrecords/,$d')
  check "at most one reconcile until the fence" equal "$(grep -v "^patch dataembassies/status" <<<"$before")" ""
  check "and that one ended with at most one status" test "$(grep -c "^patch dataembassies/status" <<<"$before")" -le 1
  allow overlap "$forced" "$(awk -v t="$gone" 'BEGIN {print t + 12}')"
  allow loss tallinn "$cut" "$last"
  check "the divergence is shown: role, epoch and what to do" sh -c "'$TESTBED' kubectl tallinn -n $NAMESPACE get dataembassy $NAME -o json | grep -q approveDiscard"
  check "home's bytes come back from the vault" restored_from_vault tallinn "$WITNESS/kept"
  check "they are all that home has, to the last byte" cmp "$WITNESS/kept/volumes/data-writer-0/log" "$(volume tallinn)/log"
  check "among them the last line that home acknowledged" grep -q " $(awk '$1 == "tallinn" {run = $2} END {print run}' "$WITNESS/acknowledged") $(awk '$1 == "tallinn" {begin = $4} END {print begin}' "$WITNESS/acknowledged")\$" "$WITNESS/kept/volumes/data-writer-0/log"
  sleep 10
  check "nothing is discarded without an approval" cmp "$WITNESS/kept/volumes/data-writer-0/log" "$(volume tallinn)/log"
  rejoin tallinn
  in_step tallinn luxembourg
  check "and back home" switch luxembourg tallinn
  judge tallinn tallinn luxembourg
}
