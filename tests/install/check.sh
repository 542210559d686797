# SPDX-License-Identifier: MIT
# check.sh WAY BUILD WORK COMPILER: installs BUILD below WORK, then builds and runs user/main.c
# against what was installed, found by pkg-config or by CMake, or with all of us inside its project.
set -eu
way=$1 build=$2 work=$3 compiler=$4
user=$(cd "$(dirname "$0")" && pwd)/user

rm -rf "$work"
mkdir -p "$work/build"
cmake --install "$build" --prefix "$work/prefix" >"$work/install.log"

case $way in
pkg_config)
    PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name rdy.pc)")
    export PKG_CONFIG_PATH
    # The words of pkg-config are arguments, one each, as README's line has it.
    # shellcheck disable=SC2046
    compile() {
        "$compiler" -Wall -Wextra -Wpedantic -Werror "$@" $(pkg-config --cflags --libs rdy)
    }
    compile -std=c17 "$user/main.c" -o "$work/build/user"
    for example in "$user"/../../../examples/*.c; do
        grep -q '<uv.h>' "$example" || compile "$example" -o "$work/build/example"
    done
    ;;
subdirectory)
    cmake -S "$user" -B "$work/build" -DCMAKE_C_COMPILER="$compiler" \
        -DRDY_SOURCE="$user/../../.." -DCMAKE_BUILD_TYPE=Debug >"$work/configure.log"
    cmake --build "$work/build" --parallel 2 >"$work/build.log"
    ;;
cmake_package)
    cmake -S "$user" -B "$work/build" -DCMAKE_C_COMPILER="$compiler" \
        -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/configure.log"
    cmake --build "$work/build" >"$work/build.log"
    ;;
*)
    echo "check.sh: no way is called '$way'" >&2
    exit 2
    ;;
esac
"$work/build/user"
