# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# The sets of runs that scripts/bench measures; it sources this file. A set is a group of
# cells in the tables. M, S, P and PACE of the environment replace a set's own choices.

sizes_all=64,1024,4096,16384,65536,262144,1048576,2097152,16777216
sizes_few=64,4096,65536,1048576,16777216
sizes_fewer=64,4096,65536,1048576

# Only the sets spin and quick have zpipe with features turned off.
usual=pipe,pipe-again,pipe-1m,pipe-spin,fifo,vmsplice,cma,unix,memfd,shm,shm-copy
usual+=,zpipe,zpipe-1m,zpipe-node
rivals=pipe,pipe-again,pipe-1m,unix,cma,memfd,shm-copy,zpipe,zpipe-1m
streams=pipe,pipe-again,pipe-1m,unix,cma,shm-copy,zpipe,zpipe-1m
gifts_small=pipe-1m,cma,shm,zpipe,zpipe-gift-small
huge_gifts=zpipe-gift,zpipe-gift-read,zpipe-exchange,zpipe-fresh
given_away=$huge_gifts,zpipe-gift-small
gifts=pipe-1m,cma,shm,zpipe,$huge_gifts
in_windows=zpipe-window,zpipe-commit-read,zpipe-write-peek,zpipe-window-gather
windows=pipe-1m,cma,shm,zpipe,zpipe-exchange,$in_windows
spinners=pipe,pipe-again,pipe-spin,shm-copy,zpipe,zpipe-nospin
# What make bench QUICK=1 measures of each other route.
routes_quick=pipe,pipe-again,zpipe

# The sets of a full run, in their order. placements is for HOST=1 only.
sets_full=(main pairs spin paced load paced-load reads unaligned odd beyond small-pages page sum
	gifts gifts-line gifts-small windows windows-line splice-null splice-file splice-tcp)

# Replaces spaces by commas.
list()
{
	local words=()
	read -ra words <<<"${1//,/ }"
	(IFS=,; echo "${words[*]}")
}

# cells MECHANISMS SIZES [PACES [PAIRS]]: prints the options for them. Empty MECHANISMS:
# all.
cells()
{
	local mechanisms=${M:-$1} paces=${PACE:-${3:-}}

	echo -n "-s $(list "${S:-$2}") -p $(list "${P:-${4:-1}}")"
	[[ ! $mechanisms ]] || echo -n " -m $(list "$mechanisms")"
	[[ ! $paces ]] || echo -n " -d $(list "$paces")"
}

# set_options SET MODEL: prints the options of a set's run.
set_options()
{
	# A guest has several boots with few rounds each. A host has more rounds instead.
	local few='-r 3 -t 15' long='-r 3 -t 100'
	[[ $2 != host ]] || few='-r 7' long='-r 7 -t 200'

	case $1:$2 in
	main:max)	echo "$(cells $usual $sizes_fewer) -r 7 -t 15" ;;
	# Its counts hardly vary.
	main:insns)	echo "$(cells $usual $sizes_fewer) -r 5 -t 15" ;;
	main:*)		echo "$(cells $usual $sizes_all) $few" ;;
	quick:*)	echo "$(cells $usual,zpipe-nospin,zpipe-nodirect,zpipe-neither,$given_away,$in_windows \
				64,4096,65536,1048576,2097152) -r 5 -t 10 -l 50" ;;
	selection:*)	echo "$(cells $usual $sizes_all) -r 7" ;;
	pairs:*)	echo "$(cells $rivals 4096,65536,1048576 '' 8) $few" ;;
	# Separates the gain of fewer copies from that of spinning.
	spin:*)		echo "$(cells pipe,pipe-again,pipe-spin,shm-copy,zpipe,zpipe-nospin,zpipe-nodirect,zpipe-neither \
				64,4096,65536,1048576) $few" ;;
	# A producer that is not always ready: the cost of waiting for each side. The runs
	# are long enough for ends whose spins fail to stop spinning.
	paced:*)	echo "$(cells $spinners 4096 10,45,60,200,1000) $long -l 0" ;;
	# Other processes use the processors.
	load:*)		echo "$(cells $spinners,pipe-1m,unix,cma 64,65536,1048576) $few -t 50 -b 2" ;;
	paced-load:*)	echo "$(cells $spinners 4096 60,1000) $long -l 0 -b 2" ;;
	# Reads that are smaller than writes.
	reads:*)	echo "$(cells $streams 131072) $few -R 10240" ;;
	unaligned:*)	echo "$(cells $rivals 4096,65536,1048576) $few -A 100" ;;
	# Sizes that are not powers of two.
	odd:*)		echo "$(cells $rivals 100000,3000000) $few" ;;
	# More than caches hold: 64 MiB.
	beyond:*)	echo "$(cells $rivals 65536,1048576) $few -W 67108864" ;;
	# No huge pages: the step at 2 MiB is one of page size.
	small-pages:*)	echo "$(cells $rivals 1048576,2097152) $few -H off" ;;
	# The cost of the handover, and of reading and checking everything.
	page:*)		echo "$(cells $rivals $sizes_fewer) $few -T page" ;;
	sum:*)		echo "$(cells $rivals $sizes_fewer) $few -T sum" ;;
	# Gifts and moves of huge pages.
	gifts:*)	echo "$(cells $gifts 2097152,16777216) $few -T page -t 40 -l 0" ;;
	gifts-line:*)	echo "$(cells $gifts 2097152,16777216) $few -T line -t 40 -l 0" ;;
	# Gifts and moves of pages of 4 KiB.
	gifts-small:*)	echo "$(cells $gifts_small 65536,2097152) $few -T page -t 40 -l 0 -H off" ;;
	# Windows. Some of these mechanisms cannot run with small messages.
	windows:*)	echo "$(cells $windows 65536,2097152,16777216) $few -T page -t 200 -l 0" ;;
	windows-line:*)	echo "$(cells $windows 65536,2097152,16777216) $few -T line -t 200 -l 0" ;;
	# Routes other than from memory to memory.
	splice-null:* | splice-file:* | splice-tcp:*)
			echo "-e ${1#*-} $(cells '' 65536,1048576) $few -T none -t 60 -l 0" ;;
	quick-null:* | quick-file:* | quick-tcp:*)
			echo "-e ${1#*-} $(cells $routes_quick 65536,1048576) -r 5 -T none -t 10 -l 0" ;;
	placements:*)	echo "$(cells $usual $sizes_few) -r 7" ;;
	*)		die "there is no set $1; there are ${sets_full[*]}" ;;
	esac
}

# given: prints the options that the environment sets for all runs. They come after a set's
# options, and the last value counts.
given()
{
	local option

	for option in "r ROUNDS" "t MS" "T TOUCH" "H THP" "A ALIGN" "R READ" "W WS" "b LOAD"; do
		read -r option name <<<"$option"
		[[ ! ${!name:-} ]] || echo "-$option ${!name}"
	done
	case ${CPUS:-} in
	'')	;;
	free)	echo -f ;;
	*)	echo "-c $CPUS" ;;
	esac
}
