#!/usr/bin/env bash
# The engine's tests under AddressSanitizer: every kernel, the golden cases and the property tests.
# Needs a nightly toolchain; where Miri is installed too, its portable kernels run under it as well.
#
#   crates/dinorad-backbone/tests/sanitize.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/sanitize
# A target keeps build scripts and macros out of it.
target=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS=detect_leaks=0
tests=(cargo +nightly test --locked --release -p dinorad-backbone --no-default-features --target "$target")
"${tests[@]}" --lib engine
"${tests[@]}" --test engine --test engine_golden
unset RUSTFLAGS
if cargo +nightly miri --version >/dev/null 2>&1; then
    MIRIFLAGS="-Zmiri-disable-isolation" cargo +nightly miri test --locked -p dinorad-backbone --no-default-features \
        --lib -- engine::kernels
else
    echo "Miri is not installed: not run" >&2
fi
