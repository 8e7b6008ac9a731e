# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154
#
# The first boot, with the old kernel: somebody types one line.

tests=(apt_installs system_is_whole module_is_loaded_at_once users_join_the_group)

test_apt_installs()
{
	snapshot before
	repository earlier
	apt_get install zpipe
}

test_system_is_whole()
{
	whole
	same 'modules' 1 "$(dpkg-query -W -f '${db:Status-Abbrev}\n' "zpipe-modules-$running" |
		grep -c '^ii')"
	passes dpkg --verify zpipe "zpipe-modules-$running"
	passes modinfo zpipe
}

test_module_is_loaded_at_once()
{
	ready
}

test_users_join_the_group()
{
	passes usermod -a -G zpipe alice
	streams
}
