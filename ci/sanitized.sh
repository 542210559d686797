# SPDX-License-Identifier: MIT
# Read by the sanitizer legs with ".": the tests under one sanitizer, without those that only look
# at sources or at compilers.
. "$(dirname "$0")/../scripts/common.sh"

# sanitized_tests NAME SANITIZER LABELS CMAKE-ARGUMENT...: LABELS are those that run one at a time.
sanitized_tests() {
    name=$1
    sanitizer=$2
    alone=$3
    shift 3
    build_into "$root/build-$name" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DRDY_DEBUG=ON \
        -DRDY_BENCH=OFF "-DRDY_SANITIZE=$sanitizer" "$@"
    # The shadow memory wants addresses that recent kernels randomise away.
    fixed=
    if setarch "$(uname -m)" -R true 2>/dev/null; then
        fixed="setarch $(uname -m) -R"
    fi
    # Two at a time, but those that measure themselves against the machine or fill it.
    $fixed ctest --test-dir "$root/build-$name" --output-on-failure --no-tests=error -j 2 \
        -LE 'static|stress|apps'
    $fixed ctest --test-dir "$root/build-$name" --output-on-failure --no-tests=error -L "$alone"
}
