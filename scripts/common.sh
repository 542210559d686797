# SPDX-License-Identifier: MIT
# Read by the other scripts with ".": where the tree is, and how a folder is built quietly.

unset CDPATH # or cd would print where it goes
root=$(cd "$(dirname "$0")/.." && pwd)

# A program started without a stdin would give the number 0 to the next file it opens.
if ! true 2>/dev/null <&0; then
    exec </dev/null
fi

say() {
    printf '%s\n' "$*" >&2
}

# build_into DIR CMAKE-ARGUMENT...: configures and builds all, or $build_targets if that is set;
# silent, unless it fails. The log stays in DIR/build.log. A folder that was configured in another
# place or by a broken run begins anew.
build_into() {
    dir=$1
    shift
    mkdir -p "$dir"
    log=$dir/build.log
    if ! grep -qsxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$dir/CMakeCache.txt" ||
        ! grep -qsxF "CMAKE_GENERATOR:INTERNAL=Ninja" "$dir/CMakeCache.txt"; then
        rm -rf "$dir/CMakeCache.txt" "$dir/CMakeFiles"
    fi
    if ! { cmake -S "$root" -B "$dir" -G Ninja "$@" &&
        cmake --build "$dir" --target ${build_targets:-all}; } >"$log" 2>&1; then
        # Of many errors the first say most; the last lines are for failures of another kind.
        { grep -E -A 6 'CMake Error|error:|undefined reference' "$log" || tail -40 "$log"; } |
            head -60 >&2
        say "build failed; the whole log is in $log"
        return 1
    fi
}

# What the tests run from.
build_tests() {
    build_into "$root/build-test" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DRDY_DEBUG=ON -DRDY_WERROR=ON \
        -DRDY_TESTS=ON -DRDY_BENCH=OFF -DRDY_LIBUV=ON
}
