#!/bin/busybox sh
# The guest's first process: devices, drivers, network, and then the test's hand.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /tmp /var/lib /run
mount -t devpts devpts /dev/pts
mount -t tmpfs tmp /tmp
mount -t tmpfs shm /dev/shm
up() { echo "lab: $1 at $(cut -d' ' -f1 /proc/uptime) s"; }
up "shell"
# Timers may come a millisecond late. Go's runtime looks after its threads every 20 µs while they work in C; that many
# interrupts cost an emulated processor a quarter of a core.
echo 1000000 >/proc/self/timerslack_ns
modprobe virtio_pci
modprobe virtio_console
# A port gets its name from the host some time after its driver: without it the test has no hand in here.
mkdir -p /dev/virtio-ports
ports="/dev/virtio-ports/lab${LAB_SETUP:+ /dev/virtio-ports/tpm}"
tries=0
# shellcheck disable=SC2086 # a list of words
while ! ls $ports >/dev/null 2>&1 && [ $tries -lt 300 ]; do
	for port in /sys/class/virtio-ports/*; do
		[ -s "$port/name" ] && name=$(cat "$port/name") && [ -n "$name" ] && ln -sf "/dev/${port##*/}" "/dev/virtio-ports/$name"
	done
	# shellcheck disable=SC2086
	ls $ports >/dev/null 2>&1 || sleep 0.1
	tries=$((tries + 1))
done
(
	modprobe virtio_net
	ip link set lo up
	ip link set eth0 up
	ip addr add "$LAB_ADDRESS/24" dev eth0
) &
for module in virtio_rng virtio_gpu evdev sch_netem; do modprobe "$module"; done
# The camera: one webcam that makes colour bars.
modprobe vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0x00
# Sound: a loop, so that a test can speak and listen, and a real card's driver. The loop comes first so that the
# order of the cards is always the same.
modprobe snd_aloop index=0
modprobe snd_hda_codec_generic
modprobe snd_hda_intel index=1
wait
more=
if [ -n "$LAB_SETUP" ]; then
	# What a terminal is set up by: a TPM (at the host's end of a port), a serial port (built in), a button.
	modprobe virtio_input
	modprobe tpm_vtpm_proxy
	while :; do
		labguest tpm /dev/virtio-ports/tpm
		sleep 1
	done &
	more="/dev/tpmrm0 /dev/ttyS0 /dev/input/event0"
fi
tries=0
for device in /dev/video0 /dev/snd/pcmC0D0c /dev/snd/pcmC1D0p /dev/dri/card0 /sys/class/net/eth0 $more; do
	while [ ! -e "$device" ] && [ $tries -lt 100 ]; do
		sleep 0.1
		tries=$((tries + 1))
	done
	[ -e "$device" ] || echo "lab: missing $device"
done
up "devices"
while :; do
	labguest /dev/virtio-ports/lab
	sleep 1
done
