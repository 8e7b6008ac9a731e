# SPDX-License-Identifier: GPL-2.0-only
#
# Makefile of the oracle "make": sixty short jobs, forty of them in two sub-makes. Each
# job logs how many jobs run at the same time.

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
