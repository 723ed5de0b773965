#!/bin/busybox sh
# shellcheck shell=dash
# What Debian's kernel has as modules and the image's has built in: drivers, and the root that the kernel itself makes of dm-mod.create (dm-init). The same table, from the
# same command line, is made here. Then the root takes over; nothing of this is left.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
stop() {
	echo "lab: $*"
	sleep 5
	reboot -f
}
while read -r module; do insmod "/modules/$module" || echo "lab: $module was not loaded"; done </modules/order
cmdline=$(cat /proc/cmdline)
table=${cmdline#*dm-mod.create=\"root,,,ro,}
[ "$table" != "$cmdline" ] || stop "no dm-mod.create"
table=${table%%\"*}
slot=${table#*PARTLABEL=}
slot=${slot%% *}
tries=0
device=
while [ -z "$device" ] && [ $tries -lt 100 ]; do
	for entry in /sys/class/block/*/uevent; do
		if grep -q "^PARTNAME=$slot\$" "$entry"; then device=/dev/$(sed -n 's/^DEVNAME=//p' "$entry"); fi
	done
	[ -n "$device" ] || sleep 0.1
	tries=$((tries + 1))
done
[ -n "$device" ] || stop "no partition $slot"
echo "$table" | sed "s|PARTLABEL=$slot|$device|g" | DM_DISABLE_UDEV=1 dmsetup create root --readonly || stop "no verified root"
mkdir -p /new
mount -t squashfs -o ro /dev/dm-0 /new || stop "the root cannot be mounted"
echo "lab: root of $slot at $(cut -d' ' -f1 /proc/uptime) s"
umount /sys
umount /proc
mount --move /dev /new/dev
exec switch_root /new /usr/lib/systemd/systemd
