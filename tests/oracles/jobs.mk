# SPDX-License-Identifier: GPL-2.0-only
#
# Forty short jobs, half of them of makes below, for the oracle "make": each says
# how many ran beside it.

jobs := $(shell seq 20)

define job
	@mkdir running/$@.$(MAKELEVEL) && ls running | wc -l >>most && sleep 0.05 && \
		rmdir running/$@.$(MAKELEVEL) && echo done $@
endef

all: $(jobs:%=job%) below1 below2
below%:
	@+$(MAKE) -s -f jobs.mk only JOBS_OF=$@
only: $(jobs:%=$(JOBS_OF)-%)
job% $(JOBS_OF)-%:
	$(job)

fail: $(jobs:%=job%) broken
broken:
	@exit 3

.PHONY: all only fail broken
