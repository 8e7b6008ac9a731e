# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Definitions for all scripts: paths, messages, steps with progress, the cache, and locks. Scripts
# source this file.
#
# Optional variables of the caller:
#   KERNEL	the kernel of scripts/kernels.conf to build for and to boot; only this file has
#		the default
#   ZPIPE_CACHE	the directory of tool root and kernels (several GB), default
#		$XDG_CACHE_HOME/zpipe or ~/.cache/zpipe

set -euo pipefail
# Other users of a guest, and of the tool root, read what the scripts make.
umask 022

ZPIPE_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
: "${ZPIPE_CACHE:=${XDG_CACHE_HOME:-${HOME:?}/.cache}/zpipe}"
ZPIPE_CACHE=$(realpath -m -- "$ZPIPE_CACHE")
: "${KERNEL:=7.3}"
export ZPIPE_DIR ZPIPE_CACHE KERNEL

# curl and apt know http_proxy only in small letters.
for proxy in {http,https,no,all}_proxy; do
	capitals=${proxy^^}
	[[ ${!proxy+set} || ! ${!capitals+set} ]] || export "$proxy=${!capitals}"
done
unset proxy capitals

say()
{
	printf 'zpipe: %s\n' "$*" >&2
}

die()
{
	say "$@"
	exit 1
}

case $ZPIPE_DIR$ZPIPE_CACHE in
*[[:space:]:]*)
	die "the kernel's Makefiles take no spaces or colons in paths: $ZPIPE_DIR, $ZPIPE_CACHE" ;;
esac

# All builds and guests run in the tool root. A script that needs it begins with "inside $0
# $@", which restarts the script in there.
inside()
{
	[[ ${ZPIPE_INSIDE:-} ]] || exec "$ZPIPE_DIR/scripts/enter" "$@"
}

# step TEXT CMD...: runs CMD with its output in a log file, shows the progress every ten
# seconds, and shows the end of the log if CMD fails.
step()
{
	local text=$1 start=$SECONDS rc=0 log beat never
	shift
	make_cache
	mkdir -p "$ZPIPE_CACHE/log"
	log=$ZPIPE_CACHE/log/${text//[^a-zA-Z0-9.]/-}.log
	: >"$log"
	say "$text ..."

	# A read from a pipe without a writer is a sleep that starts no process.
	exec {never}<> <(:)
	while ! read -rt 10 -u "$never" && kill -0 $$ 2>/dev/null; do
		printf "%7d s  %.100s\n" $((SECONDS - start)) "$(tail -n 1 "$log")" >&2
	done &
	beat=$!

	set +e
	(set -e; "$@") >"$log" 2>&1 </dev/null
	rc=$?
	set -e
	kill "$beat" 2>/dev/null || :
	wait "$beat" 2>/dev/null || :
	exec {never}>&-

	if ((rc)); then
		tail -n 30 "$log" >&2
		die "$text: failed after $((SECONDS - start)) s; the whole log is $log"
	fi
	say "$text: done in $((SECONDS - start)) s"
}

# The first line of a CACHEDIR.TAG, see https://bford.info/cachedir/, and the line that says whose
# cache it is.
tag_signature='Signature: 8a477f597d28d172789f06886806bc55'
tag_owner="# This is zpipe's cache (ZPIPE_CACHE). 'make distclean' removes it."

# Prints the entries of the cache that have names of zpipe's, without CACHEDIR.TAG.
cache_entries()
{
	find "$ZPIPE_CACHE" -mindepth 1 -maxdepth 1 \( -name 'toolroot-*' -o -name toolroot.tmp \
		-o -name 'kernel-*' -o -name 'kvm-*' -o -name oracle -o -name 'oracles[-.]*' \
		-o -name 'matplotlib[-.]*' -o -name 'install-*' -o -name cargo -o -name log \
		-o -name '*.lock' \) "$@"
}

# True if the cache has a CACHEDIR.TAG of zpipe's. Another program's tag does not count.
cache_is_tagged()
{
	local tag=$ZPIPE_CACHE/CACHEDIR.TAG lines

	[[ -f $tag ]] || return 1
	mapfile -t lines <"$tag"
	[[ ${lines[0]:-} == "$tag_signature" && ${lines[1]:-} == "$tag_owner" ]]
}

# Makes the cache. A new or empty directory gets a CACHEDIR.TAG, and so does a cache that was made
# without one: it has a tool root, and all its entries are zpipe's. A directory that holds other
# files is used, but gets no tag, so that scripts/distclean leaves it alone.
make_cache()
{
	local tag=$ZPIPE_CACHE/CACHEDIR.TAG all ours

	mkdir -p "$ZPIPE_CACHE"
	[[ ! -e $tag && ! -L $tag && -w $ZPIPE_CACHE ]] || return 0
	all=$(find "$ZPIPE_CACHE" -mindepth 1 -maxdepth 1 ! -name lost+found -printf x)
	ours=$(cache_entries -printf x)
	[[ $all == "$ours" ]] || return 0
	[[ ! $all || $(cache_entries -name 'toolroot*' -print -quit) ]] || return 0
	printf '%s\n' "$tag_signature" "$tag_owner" >"$tag.$$"
	mv "$tag.$$" "$tag"
}

# free_gb DIR: the free space of its file system.
free_gb()
{
	echo $(($(df --output=avail -B 1M "$1" | tail -n 1) / 1000))
}

# need_space GB: fails if the cache's file system has less free space.
need_space()
{
	local free

	make_cache
	free=$(free_gb "$ZPIPE_CACHE")
	((free >= $1)) ||
		die "$ZPIPE_CACHE has $free GB free and $1 are needed; ZPIPE_CACHE=DIR names another place"
}

# lock_file FILE WHAT: takes the lock FILE, which is held until the script ends. The kernel releases
# it in any case. Waits for other holders, with a message.
lock_file()
{
	local fd

	while
		exec {fd}>"$1"
		flock -n "$fd" || {
			say "waiting for another run $2"
			flock "$fd"
		}
		# scripts/distclean removes the file.
		[[ ! $1 -ef /proc/self/fd/$fd ]]
	do
		exec {fd}>&-
	done
}

# lock NAME: a lock of the cache.
lock()
{
	make_cache
	lock_file "$ZPIPE_CACHE/$1.lock" "to release $1"
}

# kernel_log FILE TEST: prints the result of a test from a verdict of qemu/run. Fails unless it is
# clean.
kernel_log()
{
	local verdict
	verdict=$(<"$1")
	if [[ $verdict == clean ]]; then
		echo "ok: $2"
	else
		echo "not ok: $2: $verdict"
		return 1
	fi
}

# own_apt DIR CMD ARGUMENT...: runs CMD, of apt, with its state in DIR/apt, so that the tool root does
# not change. If there is a file DIR/sources, it names the servers and suites.
own_apt()
{
	local dir=$1 cmd=$2 sources=()

	shift 2
	[[ ! -e $dir/sources ]] ||
		sources=(-o Dir::Etc::sourcelist="$dir/sources" -o Dir::Etc::sourceparts=/dev/null)
	mkdir -p "$dir/apt/lists/partial" "$dir/apt/archives/partial"
	"$cmd" "${sources[@]}" -o Dir::State="$dir/apt" -o Dir::State::status=/var/lib/dpkg/status \
		-o Dir::Cache="$dir/apt" -o APT::Sandbox::User=root -o Acquire::Languages=none "$@"
}

# source_of SUITE FROM: prints a line of apt's sources for SUITE, from the server of the tool root's
# own suite FROM.
source_of()
{
	local uri

	uri=$(sed -nE "s/^deb (\[[^]]*\] )?([^ ]+) $2 .*/\2/p" /etc/apt/sources.list | head -n 1)
	[[ $uri ]] || die "no source of $2 in the tool root"
	echo "deb $uri $1 main"
}

# bootstrap TMP ARGUMENT...: runs mmdebstrap, with its temporary files in TMP and this machine's own
# settings for reaching a mirror.
bootstrap()
{
	local tmp=$1 mode=unshare own=()

	shift
	# Mounts that root makes for this must disappear even if this script is killed.
	if ((EUID == 0)); then
		mode=root own=(unshare --mount)
	fi
	apt-config dump | grep -E '^Acquire::(https?::[Pp]roxy|Check-Valid-Until|Check-Date)' \
		>"$tmp/apt.conf" || :
	TMPDIR=$tmp "${own[@]}" mmdebstrap --mode="$mode" --aptopt="$tmp/apt.conf" "$@"
}

# remove PATH: also removes a tree whose files belong to ids that are mapped only in a user
# name space, or that its owner may not write.
remove()
{
	[[ -e $1 ]] || return 0
	rm -rf --one-file-system "$1" 2>/dev/null ||
		chmod -R u+rwX "$1" 2>/dev/null ||
		mmdebstrap --unshare-helper rm -rf --one-file-system "$1" 2>/dev/null || :
	rm -rf --one-file-system "$1"
}

# Removes the directory in which an interrupted run of scripts/toolroot unpacked. Its path comes from
# a file. So it must look like a directory that scripts/toolroot makes: by its name and place, owned
# by the caller, and reached without symbolic links.
remove_unpacked()
{
	local note=$ZPIPE_CACHE/toolroot.tmp dir

	[[ -f $note ]] || return 0
	dir=$(<"$note")
	if [[ ! $dir || ! -e $dir && ! -L $dir ]]; then
		rm -f "$note"
	elif [[ $dir =~ ^/.*/zpipe-toolroot\.[[:alnum:]]{6}$ && -d $dir && -O $dir &&
		$(realpath -e -- "$dir") == "$dir" ]] && for_temporary_files "${dir%/*}"; then
		remove "$dir"
		rm -f "$note"
	else
		say "$note names $dir, which does not look like a directory of" \
			'scripts/toolroot: it is left alone'
	fi
}

# for_temporary_files DIR: true if the tool root may have been unpacked below DIR.
for_temporary_files()
{
	[[ $1 == "$ZPIPE_CACHE" || $1 == /tmp || $1 == /var/tmp || -k $1 ||
		${TMPDIR:-} && $1 == "$(realpath -m -- "$TMPDIR")" ]]
}

# build_module KERNEL OUT MAKE-ARGUMENT...: builds zpipe.ko with kbuild for the kernel in
# the directory KERNEL, which scripts/kernel made. All results are in OUT.
build_module()
{
	local kernel=$1 out=$2 flags
	shift 2
	mapfile -t flags <"$kernel/flags"
	mkdir -p "$out"
	# kbuild would use the objects of a build beside the source.
	if [[ -e $ZPIPE_DIR/modules.order ]]; then
		make -s -C "$ZPIPE_DIR" clean-in-place
	fi
	# Type information needs vmlinux, which is missing. kbuild's messages about that are
	# removed, and no others.
	make --no-print-directory -C "$kernel/src" M="$ZPIPE_DIR" MO="$out" "${flags[@]}" \
		"$@" modules 2>&1 | { grep -vE '^(Skipping BTF|  BTF)' || :; }
}
