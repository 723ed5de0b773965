package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// serveDHCP gives a guest that asks for one its address (RFC 2131), until ctx ends.
func (n *Net) serveDHCP(ctx context.Context) error {
	var conn net.PacketConn
	err := n.Inside(func() (err error) {
		config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
			var set error
			err := raw.Control(func(fd uintptr) {
				set = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1), unix.BindToDevice(int(fd), tap))
			})
			return errors.Join(err, set)
		}}
		conn, err = config.ListenPacket(ctx, "udp4", ":67")
		return err
	})
	if err != nil {
		return fmt.Errorf("listen for who wants an address: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	question := make([]byte, 1500)
	for {
		size, _, err := conn.ReadFrom(question)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("hear who wants an address: %w", err)
		}
		answer := dhcpAnswer(question[:size])
		if answer == nil {
			continue
		}
		if _, err := conn.WriteTo(answer, &net.UDPAddr{IP: net.IPv4bcast, Port: 68}); err != nil && ctx.Err() == nil {
			return fmt.Errorf("answer who wants an address: %w", err)
		}
	}
}

// dhcpAnswer is an offer for a discover, and an acknowledgement for a request; nothing else is answered.
func dhcpAnswer(question []byte) []byte {
	const (
		fixed                         = 236 // up to the magic cookie
		discover, offer, request, ack = 1, 2, 3, 5
		optionType, end               = 53, 255
	)
	if len(question) < fixed+4 || question[0] != 1 || binary.BigEndian.Uint32(question[fixed:]) != 0x63825363 {
		return nil
	}
	var kind byte
	for options := question[fixed+4:]; len(options) > 1 && options[0] != end; {
		if options[0] == 0 {
			options = options[1:]
			continue
		}
		length := int(options[1])
		if len(options) < 2+length {
			return nil
		}
		if options[0] == optionType && length == 1 {
			kind = options[2]
		}
		options = options[2+length:]
	}
	reply := map[byte]byte{discover: offer, request: ack}[kind]
	if reply == 0 {
		return nil
	}
	host, guest := net.ParseIP(HostAddr).To4(), net.ParseIP(GuestAddr).To4()
	answer := make([]byte, fixed, 300)
	answer[0], answer[1], answer[2] = 2, 1, 6 // a reply, on Ethernet
	copy(answer[4:12], question[4:12])        // whose, since when, how
	copy(answer[16:], guest)
	copy(answer[20:], host)
	copy(answer[28:44], question[28:44]) // its hardware address
	answer = binary.BigEndian.AppendUint32(answer, 0x63825363)
	answer = append(answer, optionType, 1, reply)
	answer = append(append(answer, 54, 4), host...)  // who this is
	answer = append(answer, 51, 4, 0, 1, 0x51, 0x80) // for a day
	answer = append(answer, 1, 4, 255, 255, 255, 0)
	answer = append(append(answer, 3, 4), host...)
	return append(answer, end)
}
