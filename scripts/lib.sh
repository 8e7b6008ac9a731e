# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Definitions for all scripts: paths, messages, steps with progress, and locks. Scripts source this
# file.
#
# Optional variables of the caller:
#   KERNEL	the kernel of scripts/kernels.conf to build for and to boot; only this file has
#		the default
#   ZPIPE_CACHE	the directory of tool root and kernels (several GB), default
#		$XDG_CACHE_HOME/zpipe or ~/.cache/zpipe

set -euo pipefail

ZPIPE_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
: "${ZPIPE_CACHE:=${XDG_CACHE_HOME:-${HOME:?}/.cache}/zpipe}"
ZPIPE_CACHE=$(realpath -m -- "$ZPIPE_CACHE")
: "${KERNEL:=7.3}"
export ZPIPE_DIR ZPIPE_CACHE KERNEL

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

# need_space GB: fails if the cache's file system has less free space.
need_space()
{
	local free

	mkdir -p "$ZPIPE_CACHE"
	free=$(($(df --output=avail -B 1M "$ZPIPE_CACHE" | tail -n 1) / 1000))
	((free >= $1)) ||
		die "$ZPIPE_CACHE has $free GB free and $1 are needed; ZPIPE_CACHE=DIR names another place"
}

# lock NAME: held until the script ends. The kernel releases it in any case.
lock()
{
	local fd
	mkdir -p "$ZPIPE_CACHE"
	exec {fd}>"$ZPIPE_CACHE/$1.lock"
	flock -n "$fd" || {
		say "waiting for another run to release $1"
		flock "$fd"
	}
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
