# SPDX-License-Identifier: GPL-2.0-only
#
# For people: what the kernel's build system reads is Kbuild. Everything the
# targets need is made on the way, see scripts/.

module:
ifdef KDIR
	$(MAKE) -C $(KDIR) M=$(CURDIR) modules
else
	@scripts/module
endif

demo:
	@scripts/demo

test:
	@tests/run $(T)

test-long:
	@tests/long

check:
	@scripts/check

shell:
	@qemu/run --tty -- bash -i

clean: clean-in-place
	rm -rf build

# What KDIR= left beside the source; scripts/module builds only without it.
clean-in-place:
	@rm -f zpipe.ko zpipe.o zpipe.mod zpipe.mod.c zpipe.mod.o Module.symvers modules.order
	@find . \( -path ./.git -o -path ./build \) -prune -o \
		\( -name '.*.cmd' -o -name '*.o' -o -name '.*.o.d' -o -name '*_generated.rs' \) \
		-exec rm -f {} +

distclean: clean
	@scripts/distclean

help:
	@echo 'make			build zpipe.ko for the stock kernel into build/NAME/'
	@echo 'make KDIR=DIR		build zpipe.ko for a kernel tree prepared for Rust modules'
	@echo 'make demo		real data through /dev/zpipe in a guest'
	@echo 'make test		all tests; T="basic poll" only those programs'
	@echo 'make oracles		programs that know nothing of zpipe as judges; ORACLES=long for all'
	@echo 'make test-long		all of them on all kernels, and longer; takes hours'
	@echo 'make bench		zpipe beside pipe(2) and others, in build/bench/; hours; see scripts/bench'
	@echo 'make bench QUICK=1	a short one: do all of them run, are the counts right?'
	@echo 'make bench HOST=1	on this machine, where the module is loaded; leaves one file'
	@echo 'make bench-gate		instructions per message against bench/insns.baseline; ACCEPT=1'
	@echo 'make tools		build the command zpipe and libzpipe_preload.so into build/tools/'
	@echo 'make check		formatting, lints, documentation, scripts'
	@echo 'make shell		a shell in a guest with the module loaded'
	@echo 'make clean		remove what was built'
	@echo 'make distclean		remove the cache too: tool root and kernels'
	@echo
	@echo 'KERNEL=NAME chooses another kernel of scripts/kernels.conf: 7.2, debug'

.PHONY: module demo test test-long check shell clean clean-in-place distclean help

# Fails where bench/check.py has another verdict than PASS.
bench:
	@scripts/bench

# ACCEPT=1 makes what is counted now what later runs are compared with.
bench-gate:
	@GATE=1 scripts/bench

tools:
	@scripts/tools

oracles:
	@tests/oracles/run $(ORACLES)

.PHONY: bench bench-gate tools oracles
