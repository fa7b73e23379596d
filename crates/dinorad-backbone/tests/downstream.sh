#!/usr/bin/env bash
# A program outside of the workspace with this crate as its only dependency: the README's first
# example must build offline without default features, run, and pull no medical format, no
# command line and no network crate.
#
#   crates/dinorad-backbone/tests/downstream.sh
#
# Shares CARGO_TARGET_DIR (default: the workspace's target folder), so what is built is not built again.
set -euo pipefail
crate=$(cd "$(dirname "$0")/.." && pwd)
root=$(cd "$crate/../.." && pwd)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/src"
awk '/^```rust$/ {on = 1; next} /^```$/ {if (on) exit} on' "$crate/README.md" > "$work/src/main.rs"
test -s "$work/src/main.rs"
cp "$root/Cargo.lock" "$work/Cargo.lock"
cat > "$work/Cargo.toml" <<TOML
[package]
name = "downstream"
version = "0.0.0"
edition = "2024"

[dependencies]
dinorad-backbone = { path = "$crate", default-features = false }

[workspace]
TOML

cd "$work"
cargo tree --offline --edges normal --prefix none --format '{p}' > tree.txt
for forbidden in 'dicom' 'nifti' 'image ' 'clap' 'hf-hub' 'reqwest' 'hyper' 'rustls'; do
    if grep -E "^$forbidden" tree.txt; then
        echo "error: the encoder pulls \`$forbidden\`" >&2
        exit 1
    fi
done
cargo build --offline --release --quiet
output=$("$CARGO_TARGET_DIR/release/downstream")
echo "$output"
test "$output" = 'class token [1, 192], patch grid (16, 16)'
echo "downstream: $(sort -u tree.txt | wc -l) packages, none of them a medical format, a command line or a network"
