# SPDX-License-Identifier: GPL-2.0-only
#
# Targets for developers. The kernel's build system reads Kbuild instead of this file. Each
# target fetches and builds its prerequisites, see scripts/.

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

# All of it, also if a part fails.
test-long:
	@rc=0; \
	tests/packages || rc=1; \
	tests/install/run || rc=1; \
	scripts/demo || rc=1; \
	tests/oracles/run long || rc=1; \
	QUICK=1 scripts/bench || rc=1; \
	tests/long || rc=1; \
	exit $$rc

check:
	@scripts/check

shell:
	@qemu/run --tty -- bash -i

clean: clean-in-place
	rm -rf build

# Removes the files that a build with KDIR= leaves beside the source. scripts/module, which
# builds without KDIR=, needs a source directory without them.
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
	@echo 'make demo		transfer real data through /dev/zpipe in a guest'
	@echo 'make test		run all tests; T="basic poll" only those programs'
	@echo 'make oracles		test zpipe with programs that do not know it; ORACLES=long for all'
	@echo 'make test-long		run all tests on all kernels, and longer; takes hours'
	@echo 'make bench		compare zpipe with pipe(2) and others; an hour or more; see scripts/bench'
	@echo 'make bench QUICK=1	a short run: does everything run, are the counts right?'
	@echo 'make bench HOST=1	run it on this machine, where the module is loaded'
	@echo 'make bench-splice	compare splices from and to zpipe with those of pipe(2)'
	@echo 'make bench-gate		compare instructions per message with bench/insns.baseline; ACCEPT=1'
	@echo 'make tools		build the command zpipe and libzpipe_preload.so into build/tools/'
	@echo 'make packages		build Debian packages into build/packages/; SIGN_KEY=, SIGN_CERT='
	@echo 'make test-packages	test the Debian packages; QUICK=1 for less'
	@echo 'make test-install	install the packages in a Debian guest; SHORT=1 for less'
	@echo 'make check		check formatting, lints, documentation and scripts'
	@echo 'make pin		pin the newest kernel of a series: KERNEL=7.3, VERSION= for another one'
	@echo 'make shell		start a shell in a guest with the module loaded'
	@echo 'make clean		remove the built files'
	@echo 'make distclean		remove the cache too: tool root and kernels'
	@echo
	@echo 'KERNEL=NAME chooses another kernel of scripts/kernels.conf: 7.2, debug'

.PHONY: module demo test test-long check shell clean clean-in-place distclean help

# Fails if a verdict of bench/check.py is not PASS.
bench:
	@scripts/bench

# Only the routes to /dev/null, from a file and to TCP.
bench-splice:
	@SETS="splice-null splice-file splice-tcp" scripts/bench

# ACCEPT=1 makes the current counts the baseline of later runs.
bench-gate:
	@GATE=1 scripts/bench

tools:
	@scripts/tools

# SIGN_KEY= and SIGN_CERT= name the key and the certificate that modules are signed with.
packages:
	@SIGN_KEY="$(SIGN_KEY)" SIGN_CERT="$(SIGN_CERT)" scripts/packages

test-packages:
	@tests/packages

# SHORT=1: without zpipe-dkms, a kernel without a module, and Secure Boot.
test-install:
	@tests/install/run

oracles:
	@tests/oracles/run $(ORACLES)

# KERNEL= names the kernel to pin, VERSION= a version other than the newest.
pin:
	@scripts/kernel --pin "$(KERNEL)" $(VERSION)

.PHONY: bench bench-splice bench-gate tools packages test-packages test-install oracles pin
