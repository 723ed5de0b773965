# U-Boot's script: chooses the slot as RAUC's "uboot" back end expects (BOOT_ORDER, BOOT_A_LEFT, BOOT_B_LEFT), has three tries of each,
# and boots its kernel with the verified root whose hash is in the slot's own slot.env.
test -n "${BOOT_ORDER}" || setenv BOOT_ORDER "A B"
test -n "${BOOT_A_LEFT}" || setenv BOOT_A_LEFT 3
test -n "${BOOT_B_LEFT}" || setenv BOOT_B_LEFT 3
setenv slot
for try in "${BOOT_ORDER}"; do
	if test -n "${slot}"; then
		true
	elif test "${try}" = A && test ${BOOT_A_LEFT} -gt 0; then
		setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1
		setenv slot a
	elif test "${try}" = B && test ${BOOT_B_LEFT} -gt 0; then
		setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1
		setenv slot b
	fi
done
if test -z "${slot}"; then
	setenv BOOT_A_LEFT 3
	setenv BOOT_B_LEFT 3
	saveenv
	reset
fi
saveenv
if test "${slot}" = a; then setenv number 2; else setenv number 4; fi
load ${devtype} ${devnum}:${number} ${scriptaddr} slot.env && env import -t ${scriptaddr} ${filesize}
load ${devtype} ${devnum}:${number} ${kernel_addr_r} Image
# A board whose firmware changes the device tree (Raspberry Pi, by config.txt) has none in its slots: the one that U-Boot was given is the kernel's.
setenv fdt ${fdtcontroladdr}
if test -n "${slot_dtb}"; then load ${devtype} ${devnum}:${number} ${fdt_addr_r} ${slot_dtb} && setenv fdt ${fdt_addr_r}; fi
setenv root PARTLABEL=root-${slot}
setenv bootargs "dm-mod.waitfor=${root} dm-mod.create=\"root,,,ro,0 ${verity_sectors} verity 1 ${root} ${root} 4096 4096 ${verity_blocks} ${verity_start} sha256 ${verity_hash} ${verity_salt} 1 panic_on_corruption\" root=/dev/dm-0 ro rootwait rauc.slot=${slot} panic=5 quiet ${slot_args}"
booti ${kernel_addr_r} - ${fdt}
reset
