#!/usr/bin/env bash
# Runs every fuzz target for so many seconds, one at a time, and prints executions and processor time.
#
#     fuzz/all.sh 600            # all targets; or: fuzz/all.sh 600 nrrd mgh
#
# Builds without cargo-fuzz: a nightly compiler and g++ or clang are enough. Seeds: python3 fuzz/seed.py first.
set -e
cd "$(dirname "$0")"
seconds=${1:-600}
[ $# -gt 0 ] && shift
targets=${*:-nifti nrrd metaimage mgh dicom_file dicom_series image npy_npz mat}
machine=$(rustc -vV | sed -n 's/^host: //p')
bins=
for target in $targets; do bins="$bins --bin $target"; done
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Zsanitizer=address"
RUSTFLAGS="$flags" cargo +nightly build --release --target "$machine" --target-dir target/asan $bins
for target in $targets; do
    case $target in
    npy_npz) longest=8192 ;;
    dicom_series) longest=49152 ;;
    dicom_file | mat) longest=131072 ;;
    *) longest=16384 ;;
    esac
    mkdir -p "corpus/$target" "artifacts/$target"
    log="artifacts/$target.log"
    rm -f "artifacts/$target.finding"
    TIMEFORMAT='%U %S'
    spent=$({ time "target/asan/$machine/release/$target" "corpus/$target" -artifact_prefix="artifacts/$target/" \
        -max_total_time="$seconds" -max_len=$longest -rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=10 \
        -print_final_stats=1 >"$log" 2>&1 || touch "artifacts/$target.finding"; } 2>&1)
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    minutes=$(echo "$spent" | awk '{ printf "%.1f", ($1 + $2) / 60 }')
    [ -e "artifacts/$target.finding" ] && end="a FINDING, see fuzz/$log" || end="no finding"
    echo "$target: ${executions:-?} executions, $minutes min of processor time, $end"
done
