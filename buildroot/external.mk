include $(sort $(wildcard $(BR2_EXTERNAL_VINDU_PATH)/package/*/*.mk))

# Without this libvpx is configured as generic C on arm64, and encodes at a fraction of the speed: its configure takes the
# processor from this variable, and Buildroot gives --target=generic-gnu. Read when libvpx is configured, so the order of files does not matter.
ifeq ($(BR2_aarch64),y)
LIBVPX_CONF_ENV += toolchain=arm64-linux-gcc
endif
