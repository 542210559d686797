# SPDX-License-Identifier: MIT
# Read by the sanitizer legs with ".": the tests under one sanitizer, without those that only look
# at sources or at compilers.
. "$(dirname "$0")/../scripts/common.sh"

# sanitized_tests NAME SANITIZER
sanitized_tests() {
    build_into "$root/build-$1" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DRDY_DEBUG=ON \
        -DRDY_BENCH=OFF "-DRDY_SANITIZE=$2"
    # The shadow memory wants addresses that recent kernels randomise away.
    fixed=
    if setarch "$(uname -m)" -R true 2>/dev/null; then
        fixed="setarch $(uname -m) -R"
    fi
    # Two at a time, but those that measure themselves against the machine or fill it.
    $fixed ctest --test-dir "$root/build-$1" --output-on-failure --no-tests=error -j 2 \
        -LE 'static|stress|apps'
    $fixed ctest --test-dir "$root/build-$1" --output-on-failure --no-tests=error -L 'stress|apps'
}
