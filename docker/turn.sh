#!/bin/sh
# coturn for this server's callers: the names and passwords that the server hands out, and no other peer than it.
# TURN_SECRET: shared with the server. TURN_PEER: name of the server on this network.
set -eu
: "${TURN_SECRET:?Set VOICE_TURN_SECRET in .env}"
# shellcheck disable=SC2046 # words: the first is the address
set -- $(getent ahostsv4 "${TURN_PEER:-voice}")
peer=${1:?The voice server has no address on this network}

umask 077
folder=$(mktemp -d)
cat >"$folder/turnserver.conf" <<END
use-auth-secret
static-auth-secret=$TURN_SECRET
realm=voice-server
fingerprint
listening-port=3478
# A caller must not get into the networks behind this machine.
denied-peer-ip=0.0.0.0-255.255.255.255
denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
allowed-peer-ip=$peer
no-multicast-peers
no-tcp-relay
no-tls
no-dtls
no-cli
stale-nonce=600
log-file=stdout
simple-log
pidfile=$folder/turnserver.pid
END
exec turnserver -c "$folder/turnserver.conf"
