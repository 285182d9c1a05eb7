#!/bin/sh
# Counts this machine's HTTP traffic as a client in accounting objects, for nflowlevel's NFACCT. Needs nfacct.
#
#   accounting.sh add      create the objects, and the rules that count into them, unless they exist
#   accounting.sh delete   remove them
#
# In Graphite they appear as ipv4.http and ipv6.http (.pkts and .bytes). `nfacct list >nfacct.dump` saves the counts, and
# `nfacct restore <nfacct.dump` restores them. `nflowlevel acct` does both without nfacct.

set -eu

rules() { # $1: -A adds rules that are missing, -D deletes rules that exist
	for family in ipv4 ipv6; do
		command=iptables
		[ $family = ipv4 ] || command=ip6tables
		for match in "INPUT -p tcp --sport 80" "OUTPUT -p tcp --dport 80"; do
			# shellcheck disable=SC2086 # a list of words
			set -- "$1" $match -m nfacct --nfacct-name $family.http
			action=$1
			shift
			if $command -C "$@" 2>/dev/null; then
				[ "$action" = -A ] || $command -D "$@"
			else
				[ "$action" = -D ] || $command -A "$@"
			fi
			set -- "$action"
		done
	done
}

case "${1:-}" in
add)
	for object in ipv4.http ipv6.http; do
		nfacct get $object >/dev/null 2>&1 || nfacct add $object
	done
	rules -A
	;;
delete)
	rules -D
	for object in ipv4.http ipv6.http; do
		nfacct delete $object
	done
	;;
*)
	echo "usage: $0 add|delete" >&2
	exit 2
	;;
esac
