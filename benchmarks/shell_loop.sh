#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The script that kdelta replaces: two kernels, a loop of boots, no checks. Called by
# overhead.py, which sets the variables. Prints "step seconds" lines.
set -eu

now() { date +%s.%N; }
step() {
	name=$1
	begun=$(now)
	shift
	"$@" >>loop.log 2>&1
	echo "$name $(echo "$(now) - $begun" | bc)"
}

unpack() {
	cp -a "$TREE" baseline
	cp -a "$TREE" patched
	(cd patched && patch -p1 <"$PATCH")
}

build() {
	cat $FRAGMENTS >fragments.config
	mkdir "obj-$1"
	make -C "$1" O="$PWD/obj-$1" KCONFIG_ALLCONFIG="$PWD/fragments.config" allnoconfig
	make -C "$1" O="$PWD/obj-$1" -j"$JOBS" bzImage
}

# One boot: the nine cells of the cover letter, with stress-ng or without.
guest_script() {
	echo '#!/bin/sh'
	if [ "$1" = pressure ]; then
		echo 'stress-ng --vm 2 --vm-bytes 50% --vm-keep >/dev/null 2>&1 &'
		echo 'sleep 5'
	fi
	for writers in 1 2 5; do
		for readers in 1 5 10; do
			echo "/run/loop/pipe_bench --format json --writers $writers --readers $readers" \
				"--duration $2 --warmup $WARMUP >>/run/loop/out.jsonl"
		done
	done
}

boots() {
	guest_script "$1" "$2" >share/sweep.sh
	block=0
	while [ $block -lt "$BLOCKS" ]; do
		arm=0
		while [ $arm -lt "$ARMS" ]; do
			# Baseline, patched, and the baseline again.
			kernel=baseline
			[ $arm -eq 1 ] && kernel=patched
			vng --run "obj-$kernel/arch/x86/boot/bzImage" --user root --disable-kvm \
				--cpus "$VCPUS" --memory 1024M --force-9p --verbose \
				--rwdir=/run/loop="$PWD/share" --exec 'sh /run/loop/sweep.sh' \
				</dev/null 2>&1 | cat
			arm=$((arm + 1))
		done
		block=$((block + 1))
	done
}

mkdir share
cp pipe_bench share/
step unpack unpack
step build-baseline build baseline
step build-patched build patched
step boots-idle boots idle "$IDLE_SECONDS"
step boots-pressure boots pressure "$PRESSURE_SECONDS"
