package peer

import "github.com/pion/webrtc/v4"

// Connected tells that packets can be sent, before Run or after it began.
func (p *Peer) Connected() bool { return p.pc.ConnectionState() == webrtc.PeerConnectionStateConnected }

// Disconnect closes the connection as Close does and waits for that; Run is not told. It tells whether pion has forgotten what it sent.
func (p *Peer) Disconnect() (forgotten bool) {
	p.shut()
	<-p.closed
	return p.senders[0].Track() == nil
}
