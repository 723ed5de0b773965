################################################################################
#
# vindu-agent
#
################################################################################

VINDU_AGENT_VERSION = 0.1.0
VINDU_AGENT_SITE = $(realpath $(BR2_EXTERNAL_VINDU_PATH)/..)
VINDU_AGENT_SITE_METHOD = local
VINDU_AGENT_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = --exclude /build --exclude /artefacts --exclude /bin --exclude /.demo
VINDU_AGENT_LICENSE = Apache-2.0
VINDU_AGENT_LICENSE_FILES = LICENSE
VINDU_AGENT_DEPENDENCIES = alsa-lib host-pkgconf jpeg libopenh264 libvpx libyuv opus webrtc-audio-processing
VINDU_AGENT_GOMOD = vindu
VINDU_AGENT_BUILD_TARGETS = cmd/vindu-agent
# Buildroot's webrtc-audio-processing is 1.x, where Debian's is 0.3, of another interface.
VINDU_AGENT_TAGS = webrtc1

# Where there is no folder "vendor" (go mod vendor), modules come by Go's own proxy, which is what an empty GOPROXY means; go.sum holds
# their hashes either way. A local site is not vendored by Buildroot.
ifeq ($(wildcard $(VINDU_AGENT_SITE)/vendor/modules.txt),)
VINDU_AGENT_GO_ENV = GOFLAGS=-mod=readonly GOPROXY=
endif

# As scripts/arm: the same of one commit, and stamped. `make image` gives commit and time; a tree from an archive has none.
VINDU_AGENT_LDFLAGS = -s -w -buildid= -X main.commit=$(VINDU_COMMIT) -X vindu/device/clock.committed=$(VINDU_COMMITTED)

define VINDU_AGENT_USERS
	vindu -1 vindu -1 * - - audio,video,render,input,dialout,tss The terminal's program
endef

define VINDU_AGENT_INSTALL_INIT_SYSTEMD
	$(foreach u,$(notdir $(wildcard $(VINDU_AGENT_PKGDIR)/*.service $(VINDU_AGENT_PKGDIR)/*.socket $(VINDU_AGENT_PKGDIR)/*.target)),\
		$(INSTALL) -D -m 0644 $(VINDU_AGENT_PKGDIR)/$(u) $(TARGET_DIR)/usr/lib/systemd/system/$(u)
	)
	$(foreach r,$(notdir $(wildcard $(VINDU_AGENT_PKGDIR)/*.rules)),\
		$(INSTALL) -D -m 0644 $(VINDU_AGENT_PKGDIR)/$(r) $(TARGET_DIR)/usr/lib/udev/rules.d/$(r)
	)
endef

$(eval $(golang-package))
