#!/bin/sh
# After the packages, before the root is packed: post-build.sh TARGET BOARD. Fails on what no terminal in a home may have.
set -eu
target=$1
board=$2
here=$(cd "$(dirname "$0")" && pwd)
units=$target/etc/systemd/system

die() {
	echo "post-build: $*" >&2
	exit 1
}

install -D -m 0644 "$here/../$board/fw_env.config" "$target/etc/fw_env.config"
mkdir -p "$target/etc/rauc"
sed "s/@BOARD@/$board/" "$here/system.conf.in" >"$target/etc/rauc/system.conf"
# Updates are verified by this certificate alone. Without one none is accepted.
if [ -n "${VINDU_KEYRING-}" ]; then
	install -D -m 0644 "$VINDU_KEYRING" "$target/etc/rauc/keyring.pem"
fi
mkdir -p "$units/multi-user.target.wants" "$units/local-fs.target.wants" "$units/vindu-agent.service.wants" "$units/sockets.target.wants" "$target/data"
for unit in debug-shell.service emergency.service rescue.service ctrl-alt-del.target systemd-ask-password-console.service; do
	ln -sf /dev/null "$units/$unit"
done
for unit in vindu-agent.service vindu-firewall.service; do
	ln -sf "/usr/lib/systemd/system/$unit" "$units/multi-user.target.wants/$unit"
done
ln -sf /usr/lib/systemd/system/vindu-voice.socket "$units/sockets.target.wants/vindu-voice.socket"
ln -sf /usr/lib/systemd/system/vindu-data.service "$units/local-fs.target.wants/vindu-data.service"
ln -sf /usr/lib/systemd/system/vindu-good.service "$units/vindu-agent.service.wants/vindu-good.service"
: >"$target/etc/machine-id" # another one at each start: nothing of it is kept

if ! grep -q '^BR2_TARGET_ENABLE_ROOT_LOGIN=y' "${BR2_CONFIG:?}"; then
	for unit in getty@.service serial-getty@.service console-getty.service container-getty@.service getty.target; do
		ln -sf /dev/null "$units/$unit"
	done
	grep -q '^root:\*:' "$target/etc/shadow" || die "root may log in"
	for program in sshd dropbear telnetd gdbserver; do
		found=$(find "$target/usr" -name "$program" -print -quit)
		[ -z "$found" ] || die "$program is in the image"
	done
fi
