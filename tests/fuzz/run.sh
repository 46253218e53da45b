#!/bin/sh
# Runs a target for so many seconds without cargo-fuzz: tests/fuzz/run.sh TARGET SECONDS
# With nightly Rust as the toolchain (cargo +nightly …, RUSTUP_TOOLCHAIN=nightly) AddressSanitizer watches too.
set -eu
cd "$(dirname "$0")"
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing"
if rustc --version | grep -q nightly; then flags="$flags -Zsanitizer=address"; fi
target=$(rustc -vV | sed -n 's/^host: //p')
# Naming the target keeps the flags from build scripts and macros.
RUSTFLAGS="$flags" cargo build --release --target "$target" --bin "$1"
mkdir -p "corpus/$1" "artifacts/$1"
exec "${CARGO_TARGET_DIR:-target}/$target/release/$1" -max_total_time="$2" -artifact_prefix="artifacts/$1/" -print_final_stats=1 -timeout=10 "corpus/$1"
