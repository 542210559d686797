# SPDX-License-Identifier: MIT
# Read by other scripts with ".", after common.sh: files out of Debian packages of any suite and
# architecture, without the machine's apt being changed. Its own lists, caches and configuration
# lie in build-debian/, packages are unpacked there and never installed. Only the proxy and the
# mirror are taken over; the signatures are checked with the keys of debian-archive-keyring.

debian_dir=$root/build-debian

# debian_use ARCHITECTURE SUITE: what the calls below speak of.
debian_use() {
    debian_arch=$1
    debian_suite=$2
    debian_apt=$debian_dir/apt/$2-$1
}

# The machine's own mirror.
debian_mirror() {
    mirror=$(apt-get indextargets --format '$(SITE)' 'Origin: Debian' 'Label: Debian' |
        head -1) || mirror=
    [ -n "$mirror" ] || {
        say "debian: apt knows no mirror of Debian here; run apt-get update first"
        return 1
    }
    printf '%s\n' "$mirror"
}

debian_configure() {
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -r $keys ] || {
        say "debian: $keys is missing; apt-get install debian-archive-keyring"
        return 1
    }
    mirror=$(debian_mirror) || return 1
    mkdir -p "$debian_apt/none" "$debian_apt/lists/partial" "$debian_apt/cache/archives/partial"
    : >"$debian_apt/status"
    printf 'deb [signed-by=%s] %s %s main\n' $keys "$mirror" "$debian_suite" \
        >"$debian_apt/sources.list"
    {
        apt-config dump | grep -E '^Acquire::(https?|ForceIPv[46])(::Proxy[^ ]*)? "[^"]' || true
        cat <<END
Dir::Etc::main "$debian_apt/none/file";
Dir::Etc::parts "$debian_apt/none";
Dir::Etc::sourcelist "$debian_apt/sources.list";
Dir::Etc::sourceparts "$debian_apt/none";
Dir::Etc::preferences "$debian_apt/none/file";
Dir::Etc::preferencesparts "$debian_apt/none";
Dir::Etc::trusted "$debian_apt/none/file";
Dir::Etc::trustedparts "$debian_apt/none";
Dir::State "$debian_apt";
Dir::State::lists "$debian_apt/lists";
Dir::State::status "$debian_apt/status";
Dir::Cache "$debian_apt/cache";
Dir::Log "$debian_apt";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
APT::Architecture "$debian_arch";
APT::Architectures "$debian_arch";
APT::Sandbox::User "$(id -un)";
END
    } >"$debian_apt/apt.conf"
}

# debian_update: brings the list of packages up to date, if that was not done today.
debian_update() {
    [ -z "$(find "$debian_apt/updated" -mtime -1 2>/dev/null)" ] || return 0
    debian_configure
    if ! APT_CONFIG=$debian_apt/apt.conf apt-get -q update >"$debian_apt/log" 2>&1 ||
        grep -q '^[WE]: ' "$debian_apt/log"; then
        cat "$debian_apt/log" >&2
        say "debian: no list of packages of $debian_suite for $debian_arch"
        return 1
    fi
    touch "$debian_apt/updated"
}

# debian_newest REGEX: the package with the highest version in its name.
debian_newest() {
    APT_CONFIG=$debian_apt/apt.conf apt-cache pkgnames | grep -Ex "$1" | sort -V | tail -1
}

# debian_unpack PACKAGE...: into build-debian/SUITE-ARCHITECTURE/PACKAGE; what is there stays.
debian_unpack() {
    for package in "$@"; do
        into=$debian_dir/$debian_suite-$debian_arch/$package
        [ ! -d "$into" ] || continue
        if ! (cd "$debian_apt/cache" && rm -f ./*.deb &&
            APT_CONFIG=$debian_apt/apt.conf apt-get -q download "$package") \
            >"$debian_apt/log" 2>&1; then
            cat "$debian_apt/log" >&2
            say "debian: cannot get $package of $debian_suite for $debian_arch"
            return 1
        fi
        rm -rf "$into.part"
        mkdir -p "$into.part"
        dpkg-deb -x "$debian_apt"/cache/*.deb "$into.part"
        rm -f "$debian_apt"/cache/*.deb
        mv "$into.part" "$into"
    done
}
