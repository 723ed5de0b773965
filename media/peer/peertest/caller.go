// Package peertest is the far end of a connection for tests: a caller in Go that offers as a browser does, sends a
// synthetic picture and tone, and decodes what it hears and sees.
package peertest

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/interceptor"
	"github.com/pion/logging"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"

	"vindu/media/codec"
)

// Options says how a Caller behaves.
type Options struct {
	Width, Height, FPS int         // of what it sends; 320, 240, 15
	Colour             color.YCbCr // of the picture; dark red
	Tone               float64     // Hz; 1000
	Silent             bool        // offers media but sends none
	NoVideo            bool        // offers only sound
	// Profiles replaces what the caller offers for SRTP.
	Profiles []dtls.SRTPProtectionProfile
	// Turn is used for relayed candidates only.
	Turn *webrtc.ICEServer
	// RTXFirst sends the first packets of the picture by RTX only, as a browser does that probes with retransmissions.
	RTXFirst int
	// Heard takes each packet of sound that arrives, and Shown is called for each picture that was decoded, each from one goroutine.
	Heard func(data []byte, seq uint16, timestamp uint32)
	Shown func()
	// Line is the only way to the near end.
	Line *Line
	// Interfaces are those that the caller uses; nil: loopback.
	Interfaces func(name string) bool
}

// browserRetry is when a browser sends a flight of the handshake again first: libwebrtc does after twice the round trip that ICE has measured
// (DtlsTransport::ConfigureHandshakeTimeout), 400 ms on the lines that calls are set up over here; RFC 9147 §5.8.2 recommends it.
const browserRetry = 400 * time.Millisecond

// Caller is the far end.
type Caller struct {
	opt  Options
	pc   *webrtc.PeerConnection
	stop context.CancelFunc
	wg   sync.WaitGroup

	Candidates chan webrtc.ICECandidateInit // local ones
	connected  chan struct{}
	once       sync.Once

	mu     sync.Mutex
	colour color.YCbCr
	size   image.Point
	pcm    []int16

	line atomic.Pointer[Line] // the only way to the near end, if there is one

	frames, keyframes, packets, plis atomic.Int64
	firstFrame                       atomic.Int64 // Unix nanoseconds
}

// New makes a caller on the loopback interface and its offer.
func New(opt Options) (*Caller, string, error) {
	if opt.Width == 0 {
		opt.Width, opt.Height = 320, 240
	}
	if opt.FPS == 0 {
		opt.FPS = 15
	}
	if opt.Colour == (color.YCbCr{}) {
		opt.Colour = color.YCbCr{Y: 81, Cb: 90, Cr: 240}
	}
	if opt.Tone == 0 {
		opt.Tone = 1000
	}
	c := &Caller{opt: opt, Candidates: make(chan webrtc.ICECandidateInit, 64), connected: make(chan struct{})}

	c.line.Store(opt.Line)
	m := &webrtc.MediaEngine{}
	if err := m.RegisterDefaultCodecs(); err != nil {
		return nil, "", fmt.Errorf("register codecs: %w", err)
	}
	r := &interceptor.Registry{}
	if opt.RTXFirst > 0 {
		r.Add(rtxFirst(opt.RTXFirst))
	}
	if err := webrtc.RegisterDefaultInterceptors(m, r); err != nil {
		return nil, "", fmt.Errorf("register interceptors: %w", err)
	}
	lf := logging.NewDefaultLoggerFactory()
	lf.DefaultLogLevel = logging.LogLevelDisabled
	s := webrtc.SettingEngine{LoggerFactory: lf}
	s.SetIncludeLoopbackCandidate(true)
	// As a browser, it takes the first pair that works.
	s.SetHostAcceptanceMinWait(0)
	s.SetSrflxAcceptanceMinWait(0)
	s.SetPrflxAcceptanceMinWait(0)
	s.SetRelayAcceptanceMinWait(0)
	if opt.Line != nil {
		s.SetDTLSRetransmissionInterval(browserRetry)
	}
	if opt.Interfaces == nil {
		opt.Interfaces = func(name string) bool { return name == "lo" }
	}
	s.SetInterfaceFilter(opt.Interfaces)
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	if opt.Profiles != nil {
		s.SetSRTPProtectionProfiles(opt.Profiles...)
	}
	conf := webrtc.Configuration{}
	if opt.Turn != nil {
		conf.ICEServers = []webrtc.ICEServer{*opt.Turn}
		conf.ICETransportPolicy = webrtc.ICETransportPolicyRelay
	}
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithInterceptorRegistry(r), webrtc.WithSettingEngine(s)).NewPeerConnection(conf)
	if err != nil {
		return nil, "", fmt.Errorf("make connection: %w", err)
	}
	c.pc = pc
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel

	pc.OnICECandidate(func(i *webrtc.ICECandidate) {
		if i == nil {
			return
		}
		j := i.ToJSON()
		if line := c.line.Load(); line != nil {
			j.Candidate = line.Far(j.Candidate)
		}
		c.Candidates <- j
	})
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			c.once.Do(func() { close(c.connected) })
		}
	})
	pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		if t.Kind() == webrtc.RTPCodecTypeVideo {
			c.watch(t)
		} else {
			c.hear(t)
		}
	})
	if err := c.tracks(ctx); err != nil {
		return nil, "", errors.Join(err, c.Close())
	}
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("make offer: %w", err), c.Close())
	}
	if err := pc.SetLocalDescription(offer); err != nil {
		return nil, "", errors.Join(fmt.Errorf("set offer: %w", err), c.Close())
	}
	return c, offer.SDP, nil
}

func (c *Caller) tracks(ctx context.Context) error {
	audio, err := webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}, "audio", "caller")
	if err != nil {
		return fmt.Errorf("make audio track: %w", err)
	}
	as, err := c.pc.AddTrack(audio)
	if err != nil {
		return fmt.Errorf("add audio track: %w", err)
	}
	c.wg.Go(func() { c.reports(as) })
	if !c.opt.Silent {
		c.wg.Go(func() { c.sing(ctx, audio) })
	}
	if c.opt.NoVideo {
		return nil
	}
	video, err := webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8}, "video", "caller")
	if err != nil {
		return fmt.Errorf("make video track: %w", err)
	}
	vs, err := c.pc.AddTrack(video)
	if err != nil {
		return fmt.Errorf("add video track: %w", err)
	}
	c.wg.Go(func() { c.reports(vs) })
	if !c.opt.Silent {
		c.wg.Go(func() { c.show(ctx, video) })
	}
	return nil
}

func (c *Caller) reports(s *webrtc.RTPSender) {
	for {
		packets, _, err := s.ReadRTCP()
		if err != nil {
			return
		}
		for _, p := range packets {
			if _, ok := p.(*rtcp.PictureLossIndication); ok {
				c.plis.Add(1)
			}
		}
	}
}

// show sends the picture once connected.
func (c *Caller) show(ctx context.Context, t *webrtc.TrackLocalStaticSample) {
	if !c.await(ctx) {
		return
	}
	e, err := codec.NewVP8Encoder(codec.VP8Config{Width: c.opt.Width, Height: c.opt.Height, FPS: float64(c.opt.FPS), Bitrate: 300_000})
	if err != nil {
		return
	}
	defer e.Close()
	img := Picture(c.opt.Width, c.opt.Height, c.opt.Colour)
	period := time.Second / time.Duration(c.opt.FPS)
	tick := time.NewTicker(period)
	defer tick.Stop()
	seen := int64(0)
	for n := int64(1); ; n++ {
		Move(img, int(n))
		if p := c.plis.Load(); p != seen {
			seen = p
			e.ForceKeyframe()
		}
		f, err := e.Encode(img, n*90000/int64(c.opt.FPS))
		if err != nil || t.WriteSample(media.Sample{Data: f.Data, Duration: period}) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sing sends the tone once connected.
func (c *Caller) sing(ctx context.Context, t *webrtc.TrackLocalStaticSample) {
	if !c.await(ctx) {
		return
	}
	e, err := codec.NewOpusEncoder(codec.OpusConfig{})
	if err != nil {
		return
	}
	defer e.Close()
	pcm := make([]int16, 960)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n += len(pcm) {
		Tone(pcm, c.opt.Tone, n)
		p, err := e.Encode(pcm)
		if err != nil || t.WriteSample(media.Sample{Data: p, Duration: 20 * time.Millisecond}) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (c *Caller) await(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-c.connected:
		return true
	}
}

// watch decodes the picture that arrives and keeps its middle's colour.
func (c *Caller) watch(t *webrtc.TrackRemote) {
	d, err := codec.NewVP8Decoder()
	if err != nil {
		return
	}
	defer d.Close()
	var frame []byte
	var head codecs.VP8Packet
	var asked time.Time
	for {
		p, _, err := t.ReadRTP()
		if err != nil {
			return
		}
		body, err := head.Unmarshal(p.Payload)
		if err != nil {
			continue
		}
		if head.S == 1 && head.PID == 0 {
			frame = frame[:0]
		}
		frame = append(frame, body...)
		if !p.Marker {
			continue
		}
		if h, err := codec.ParseVP8(frame); err == nil && h.Keyframe {
			c.keyframes.Add(1)
		}
		img, err := d.Decode(frame)
		if err != nil {
			if now := time.Now(); now.Sub(asked) > 500*time.Millisecond {
				asked = now
				_ = c.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(t.SSRC())}})
			}
			continue
		}
		if img == nil {
			continue
		}
		size := img.Rect.Size()
		c.mu.Lock()
		c.colour, c.size = img.YCbCrAt(size.X/2, size.Y/4), size
		c.mu.Unlock()
		if c.opt.Shown != nil {
			c.opt.Shown()
		}
		if c.frames.Add(1) == 1 {
			c.firstFrame.Store(time.Now().UnixNano())
		}
	}
}

// hear decodes the sound that arrives and keeps the last second of it.
func (c *Caller) hear(t *webrtc.TrackRemote) {
	d, err := codec.NewOpusDecoder()
	if err != nil {
		return
	}
	defer d.Close()
	pcm := make([]int16, codec.MaxOpusSamples)
	for {
		p, _, err := t.ReadRTP()
		if err != nil {
			return
		}
		c.packets.Add(1)
		if c.opt.Heard != nil {
			c.opt.Heard(p.Payload, p.SequenceNumber, p.Timestamp)
		}
		n, err := d.Decode(p.Payload, pcm)
		if err != nil {
			continue
		}
		c.mu.Lock()
		c.pcm = append(c.pcm, pcm[:n]...)
		if over := len(c.pcm) - codec.SampleRate; over > 0 {
			c.pcm = append(c.pcm[:0], c.pcm[over:]...)
		}
		c.mu.Unlock()
	}
}

// Answer takes the answer.
func (c *Caller) Answer(sdp string) error {
	if c.line.Load() != nil {
		sdp = Strip(sdp)
	}
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdp}); err != nil {
		return fmt.Errorf("set answer: %w", err)
	}
	return nil
}

// Restart makes an offer for another path (an ICE restart); its candidates, and the near end's, go over line from here on, if it is not nil.
func (c *Caller) Restart(line *Line) (string, error) {
	if line != nil {
		c.line.Store(line)
	}
	offer, err := c.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: true})
	if err != nil {
		return "", fmt.Errorf("make offer: %w", err)
	}
	if err := c.pc.SetLocalDescription(offer); err != nil {
		return "", fmt.Errorf("set offer: %w", err)
	}
	return offer.SDP, nil
}

// AddCandidate takes a candidate of the near end's.
func (c *Caller) AddCandidate(candidate string) error {
	if line := c.line.Load(); line != nil {
		candidate = line.Near(candidate)
	}
	return c.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: candidate})
}

// AskKeyframe sends a PLI for the picture that arrives.
func (c *Caller) AskKeyframe() error {
	for _, r := range c.pc.GetReceivers() {
		if t := r.Track(); t != nil && t.Kind() == webrtc.RTPCodecTypeVideo {
			return c.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(t.SSRC())}})
		}
	}
	return errors.New("no video arrives")
}

// Frames returns how many pictures were decoded, and how many keyframes came.
func (c *Caller) Frames() (frames, keyframes int64) { return c.frames.Load(), c.keyframes.Load() }

// FirstFrame returns when the first picture was decoded; zero if none was.
func (c *Caller) FirstFrame() time.Time {
	if n := c.firstFrame.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// Packets returns how many sound packets came.
func (c *Caller) Packets() int64 { return c.packets.Load() }

// Asked returns how many PLIs came.
func (c *Caller) Asked() int64 { return c.plis.Load() }

// Seen returns the colour of the last picture, a quarter from its top, and its size.
func (c *Caller) Seen() (color.YCbCr, image.Point) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.colour, c.size
}

// Heard returns the share of the last half second's sound that lies at hz.
func (c *Caller) Heard(hz float64) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pcm) < codec.SampleRate/2 {
		return 0
	}
	return Power(c.pcm[len(c.pcm)-codec.SampleRate/2:], hz)
}

// Vanish stops everything without a word to the near end, as pulling the plug does.
func (c *Caller) Vanish() error {
	c.stop()
	// pion says good-bye by DTLS; a vanished caller says nothing, so its sockets go first.
	return c.pc.SCTP().Transport().ICETransport().Stop()
}

// Close hangs up and waits until all has ended.
func (c *Caller) Close() error {
	c.stop()
	err := c.pc.GracefulClose()
	c.wg.Wait()
	return err
}

// rtxFirst makes RTX packets (RFC 4588 §4) of the first packets of a stream.
type rtxFirst int

func (r rtxFirst) NewInterceptor(string) (interceptor.Interceptor, error) {
	return &rtxFirstInterceptor{left: int(r)}, nil
}

type rtxFirstInterceptor struct {
	interceptor.NoOp
	left int
	seq  uint16
}

func (r *rtxFirstInterceptor) BindLocalStream(info *interceptor.StreamInfo, w interceptor.RTPWriter) interceptor.RTPWriter {
	if info.SSRCRetransmission == 0 {
		return w
	}
	return interceptor.RTPWriterFunc(func(h *rtp.Header, payload []byte, a interceptor.Attributes) (int, error) {
		if r.left == 0 || h.SSRC != info.SSRC {
			return w.Write(h, payload, a)
		}
		r.left--
		r.seq++
		again := h.Clone()
		again.SSRC, again.PayloadType, again.SequenceNumber = info.SSRCRetransmission, info.PayloadTypeRetransmission, r.seq
		return w.Write(&again, append([]byte{byte(h.SequenceNumber >> 8), byte(h.SequenceNumber)}, payload...), a)
	})
}

// Picture returns a picture of one colour.
func Picture(w, h int, col color.YCbCr) *image.YCbCr {
	img := image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio420)
	for i := range img.Y {
		img.Y[i] = col.Y
	}
	for i := range img.Cb {
		img.Cb[i], img.Cr[i] = col.Cb, col.Cr
	}
	return img
}

// Move draws something that moves in the lower half of a picture.
func Move(img *image.YCbCr, n int) {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	for y := h * 5 / 8; y < h*7/8; y++ {
		row := img.Y[y*img.YStride:][:w]
		for x := range row {
			row[x] = byte(40 + (x+4*n)*3%160)
		}
	}
}

// Tone fills pcm with a tone of hz whose first sample is number from.
func Tone(pcm []int16, hz float64, from int) {
	for i := range pcm {
		pcm[i] = int16(8000 * math.Sin(2*math.Pi*hz*float64(from+i)/codec.SampleRate))
	}
}

// Power is the share of pcm's energy that lies at hz (Goertzel's algorithm).
func Power(pcm []int16, hz float64) float64 {
	k := 2 * math.Cos(2*math.Pi*hz/codec.SampleRate)
	var s1, s2, total float64
	for _, v := range pcm {
		x := float64(v)
		total += x * x
		s1, s2 = x+k*s1-s2, s1
	}
	if total == 0 {
		return 0
	}
	return (s1*s1 + s2*s2 - k*s1*s2) / (total * float64(len(pcm)) / 2)
}
