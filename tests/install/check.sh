# SPDX-License-Identifier: MIT
# check.sh WAY BUILD WORK COMPILER: installs BUILD below WORK, then builds and runs user/main.c
# against what was installed, found by pkg-config or by CMake.
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
    # The words of pkg-config are arguments, one each.
    # shellcheck disable=SC2046
    "$compiler" -std=c17 -Wall -Wextra -Wpedantic -Werror "$user/main.c" -o "$work/build/user" \
        $(pkg-config --define-prefix --static --cflags --libs rdy)
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
