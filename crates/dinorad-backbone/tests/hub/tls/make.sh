#!/usr/bin/env bash
# Makes the certificates of the tests over TLS: an authority, a server `localhost` that it vouches for, and another authority.
# The keys are in the open and worth nothing.
set -euo pipefail
cd "$(dirname "$0")"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
curve=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500)
authority=(-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign)
openssl req -x509 "${curve[@]}" "${authority[@]}" -subj /CN=dinorad-test -keyout "$scratch/authority.key" -out authority.pem
openssl req -x509 "${curve[@]}" "${authority[@]}" -subj /CN=another-test -keyout /dev/null -out another.pem
openssl req "${curve[@]}" -subj /CN=localhost -keyout server.key -out "$scratch/server.csr"
openssl x509 -req -in "$scratch/server.csr" -CA authority.pem -CAkey "$scratch/authority.key" -CAserial "$scratch/authority.srl" -CAcreateserial -days 36500 -out server.pem \
    -extfile <(printf 'subjectAltName=DNS:localhost\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth')
