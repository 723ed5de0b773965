package robot

import (
	"bytes"
	_ "embed" // the media
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pion/webrtc/v4/pkg/media/ivfreader"
	"github.com/pion/webrtc/v4/pkg/media/oggreader"
)

//go:embed assets/picture.ivf
var pictureFile []byte

//go:embed assets/sound.ogg
var soundFile []byte

// period is how long a packet of the sound lasts.
const period = 20 * time.Millisecond

// assets are what the robot shows and plays, over and over.
type assets struct {
	pictures [][]byte
	frame    time.Duration // each picture's
	sounds   [][]byte      // packets of period
}

func loadAssets() (*assets, error) {
	a := new(assets)
	var err error
	if a.pictures, a.frame, err = readPictures(pictureFile); err != nil {
		return nil, fmt.Errorf("picture: %w", err)
	}
	if a.sounds, err = readSounds(soundFile); err != nil {
		return nil, fmt.Errorf("sound: %w", err)
	}
	return a, nil
}

func readPictures(file []byte) ([][]byte, time.Duration, error) {
	r, head, err := ivfreader.NewWith(bytes.NewReader(file))
	if err != nil {
		return nil, 0, err
	}
	if head.FourCC != "VP80" {
		return nil, 0, fmt.Errorf("%s is not VP8", head.FourCC)
	}
	var pictures [][]byte
	for {
		p, _, err := r.ParseNextFrame()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, 0, err
		}
		pictures = append(pictures, p)
	}
	if len(pictures) == 0 || !standsAlone(pictures[0]) {
		return nil, 0, errors.New("it does not begin with a picture that stands alone")
	}
	return pictures, time.Second * time.Duration(head.TimebaseNumerator) / time.Duration(head.TimebaseDenominator), nil
}

// standsAlone tells a key frame: the first bit of a VP8 frame is 0 (RFC 6386 §9.1).
func standsAlone(frame []byte) bool { return len(frame) > 0 && frame[0]&1 == 0 }

func readSounds(file []byte) ([][]byte, error) {
	r, err := oggreader.NewWithOptions(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	var packets [][]byte
	for {
		p, head, err := r.ParseNextPage()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if _, is := head.HeaderType(p); !is && len(p) > 0 { // one packet to a page, as it was written
			packets = append(packets, p)
		}
	}
	if len(packets) == 0 {
		return nil, errors.New("there is none")
	}
	return packets, nil
}
