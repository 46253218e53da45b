#!/bin/sh
# Runs a target without cargo-fuzz: tests/fuzz/run.sh TARGET [OPTION …]
# Options are libFuzzer's: -max_total_time=300 for so many seconds, -runs=10000000 for so many cases.
# With nightly Rust as the toolchain (cargo +nightly …, RUSTUP_TOOLCHAIN=nightly) AddressSanitizer watches too; what is safe
# Rust throughout has no need of it and is some times faster without.
set -eu
cd "$(dirname "$0")"
name=$1
shift
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing"
if rustc --version | grep -q nightly; then flags="$flags -Zsanitizer=address"; fi
host=$(rustc -vV | sed -n 's/^host: //p')
# Naming the host as the target keeps the flags from build scripts and macros.
RUSTFLAGS="$flags" cargo build --release --target "$host" --bin "$name"
target=${CARGO_TARGET_DIR:-target}
mkdir -p "corpus/$name" "artifacts/$name"
# What is found is kept in corpus/; seeds and dictionaries are only read.
seeds=
if [ -d "seeds/$name" ]; then seeds="seeds/$name"; fi
if [ "$name" = config ]; then
    # The words of a configuration are those of its schema.
    seeds="$seeds ../../examples/experiments"
    grep -oE '"[a-z0-9_-]+"' ../../logitfuse.schema.json | sort -u >"$target/config.dict"
    set -- "-dict=$target/config.dict" "$@"
elif [ "$name" = directory ]; then
    # Recipes of a few hundred bytes, of any length from the first on; their folders need no disk.
    set -- -len_control=0 -max_len=512 "$@"
    if [ -d /dev/shm ]; then TMPDIR=${TMPDIR:-/dev/shm} && export TMPDIR; fi
elif [ -f "dictionaries/$name.dict" ]; then
    set -- "-dict=dictionaries/$name.dict" "$@"
fi
# shellcheck disable=SC2086  # several folders
exec "$target/$host/release/$name" -artifact_prefix="artifacts/$name/" -print_final_stats=1 -timeout=10 "$@" "corpus/$name" $seeds
