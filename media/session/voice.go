package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"vindu/media/codec"
	"vindu/media/sound"
)

const (
	frameSamples = sound.FrameSamples

	opusFrame = 2 * frameSamples // 20 ms: half the packets of 10 ms, and room for the copy of the last frame
	lossEvery = time.Second
)

// runSound keeps a sound card open from Open until ctx ends.
func (s *Session) runSound(ctx context.Context) {
	defer s.sound.attempted()
	if !s.answeredOr(ctx) || s.dev.OpenSound == nil {
		return
	}
	lost := false
	for ctx.Err() == nil {
		open, leave, ok := s.veil.enter(ctx)
		if !ok {
			return
		}
		dev, err := s.dev.OpenSound(open)
		if err == nil {
			s.sound.open(time.Now())
			s.stage(&s.times.SoundOpen)
			s.emit(Event{Kind: SoundOpened})
			s.sound.attempted()
			lost = false
			err = s.talk(open, dev)
			s.sound.shut(time.Now())
		}
		drawn := open.Err() != nil
		leave()
		if ctx.Err() != nil {
			return
		}
		if drawn {
			continue
		}
		if !lost {
			lost = true
			s.log.Warn("sound lost", "error", err)
			s.emit(Event{Kind: SoundLost, Err: err})
		}
		s.sound.attempted()
		if !s.retry(ctx) {
			return
		}
	}
}

// talk runs both directions until the card fails or ctx ends, and closes it.
func (s *Session) talk(ctx context.Context, dev Sound) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unhook := context.AfterFunc(ctx, func() { _ = dev.Close() })
	defer unhook()

	if m, ok := dev.(EchoMeter); ok {
		s.echo.Store(meter{m})
	}
	s.jitter.Start(time.Now())
	defer s.jitter.Stop()
	var wg sync.WaitGroup
	var in, out error
	wg.Go(func() {
		if in = s.listen(ctx, dev); !errors.Is(in, sound.ErrNotFound) {
			cancel()
		}
	})
	wg.Go(func() {
		if out = s.play(ctx, dev); !errors.Is(out, sound.ErrNotFound) {
			cancel()
		}
	})
	wg.Wait()
	if err := dev.Close(); err != nil {
		s.log.Warn("sound closed with an error", "error", err)
	}
	// A direction that the card does not have is not what went wrong, unless it has neither.
	if errors.Is(in, sound.ErrNotFound) {
		return out
	}
	return in
}

// listen codes what the microphone hears and sends it.
func (s *Session) listen(ctx context.Context, dev Sound) error {
	enc, err := codec.NewOpusEncoder(codec.OpusConfig{Bitrate: s.cfg.AudioBitrate, Complexity: s.cfg.Complexity})
	if err != nil {
		return err
	}
	defer enc.Close()
	var pcm [opusFrame]int16
	var pauses pauses
	asked := time.Now()
	// After a loss or a curtain the time stamps go on: what is older than what was heard is left out by the far end.
	for ts := uint32(time.Since(s.start).Milliseconds()) * (sound.Rate / 1000); ; ts += opusFrame {
		for at := 0; at < opusFrame; at += frameSamples {
			if err := dev.Read(pcm[at : at+frameSamples]); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if now := time.Now(); now.Sub(asked) >= lossEvery {
			asked = now
			_, loss := s.peer.LossNow()
			enc.SetLoss(max(int(loss*100), 3))
			enc.SetBitrate(soundBitrate(s.cfg.AudioBitrate, s.peer.TargetBitrate()))
		}
		enc.SetDTX(inaudible(pcm[:]))
		packet, err := enc.Encode(pcm[:])
		if err != nil {
			return err
		}
		s.near.soundFrames.Add(2)
		select {
		case <-s.secure:
		default:
			continue
		}
		if !pauses.sends(packet) {
			continue
		}
		s.near.soundBits.Add(uint64(8*len(packet) + packetHead))
		if err := s.peer.WriteAudio(packet, ts); err != nil && ctx.Err() == nil {
			s.log.Debug("sound not sent", "error", err)
		}
	}
}

// pauses decides which packets are sent. Those without content say that nobody speaks, which is said once (RFC 7587 §3.1.3); libopus has a
// packet with content every 400 ms then.
type pauses struct{ said bool }

func (p *pauses) sends(packet []byte) bool {
	said := p.said
	p.said = len(packet) <= 2
	return !p.said || !said
}

// inaudible reports whether a frame is below −50 dBFS. Only then may it be left out: somebody who speaks softly is levelled up above that, and a
// steady tone, which libopus takes for noise, may be a monitor's alarm.
func inaudible(frame []int16) bool {
	const limit = 104 * 104
	sum := int64(0) // loud sound would not fit an armv7's int
	for _, v := range frame {
		sum += int64(v) * int64(v)
	}
	return sum < limit*int64(len(frame))
}

// soundBitrate is what sound gets of an estimate: all that it wants, until that is more than a third.
func soundBitrate(want, target int) int { return max(min(want, target/3), 12_000) }

// play plays what the caller says.
func (s *Session) play(ctx context.Context, dev Sound) error {
	var pcm [frameSamples]int16
	volume := sound.NewVolume(s.volume)
	heard := false
	for ctx.Err() == nil {
		s.jitter.Pull(pcm[:], time.Now())
		if !heard && s.jitter.Playing() {
			heard = true
			if s.stage(&s.times.FarSound) {
				s.emit(Event{Kind: FarSound})
			}
		}
		volume.Apply(pcm[:])
		if err := dev.Write(pcm[:]); err != nil {
			return err
		}
	}
	return ctx.Err()
}
