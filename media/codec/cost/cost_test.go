package cost

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"vindu/media/codec"
)

// coder is one that is only named.
func coder(name string, k codec.Kind) codec.Coder {
	return codec.Coder{Name: name, Kind: k, NewEncoder: func(codec.VideoConfig) (codec.VideoEncoder, error) { return nil, errors.New("of the test") }}
}

func TestOrder(t *testing.T) {
	vpx, open, hard := coder("libvpx", codec.VP8), coder("openh264", codec.H264), coder("hardware", codec.H264)
	all := []codec.Coder{hard, vpx, open}
	ms := func(name string, encode, decode int) Cost {
		return Cost{name, time.Duration(encode) * time.Millisecond, time.Duration(decode) * time.Millisecond}
	}
	for _, tt := range []struct {
		name   string
		coders []codec.Coder
		costs  []Cost
		want   []string
	}{
		{"nothing measured", all, nil, []string{"hardware", "openh264", "libvpx"}},
		{"hardware is cheapest", all, []Cost{ms("libvpx", 10, 5), ms("openh264", 12, 3), ms("hardware", 1, 3)}, []string{"hardware", "openh264", "libvpx"}},
		{"libvpx is cheapest", all, []Cost{ms("libvpx", 5, 3), ms("openh264", 9, 3), ms("hardware", 8, 3)}, []string{"libvpx", "hardware", "openh264"}},
		{"decoding counts", []codec.Coder{vpx, open}, []Cost{ms("libvpx", 5, 9), ms("openh264", 6, 3)}, []string{"openh264", "libvpx"}},
		{"about the same", []codec.Coder{vpx, open}, []Cost{ms("libvpx", 50, 50), ms("openh264", 48, 49)}, []string{"libvpx", "openh264"}},
		{"one failed", all, []Cost{ms("libvpx", 10, 5), ms("openh264", 12, 9)}, []string{"libvpx", "openh264", "hardware"}},
		{"slow hardware", all, []Cost{ms("libvpx", 10, 5), ms("openh264", 5, 3), ms("hardware", 30, 3)}, []string{"openh264", "hardware", "libvpx"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, c := range Order(tt.coders, tt.costs) {
				got = append(got, c.Name)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestMeasure(t *testing.T) {
	for _, c := range []codec.Coder{codec.Libvpx(), codec.OpenH264()} {
		got, err := Measure(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if got.Coder != c.Name || got.Encode <= 0 || got.Decode <= 0 {
			t.Errorf("%+v", got)
		}
		t.Logf("%s: %s to code and %s to decode a picture", got.Coder, got.Encode, got.Decode)
	}
	if _, err := Measure(t.Context(), coder("none", codec.H264)); err == nil {
		t.Error("what cannot be made was measured")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Measure(ctx, codec.Libvpx()); !errors.Is(err, context.Canceled) {
		t.Errorf("a call that comes does not end it: %v", err)
	}
}

// What was measured is believed as long as libraries, coders and processor are the same, and nothing else is.
func TestBook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "coders.json")
	coders := []codec.Coder{coder("libvpx", codec.VP8), coder("openh264", codec.H264)}
	b := Open(path, coders)
	if _, ok := b.Known(); ok {
		t.Fatal("known before it was measured")
	}
	want := []Cost{{"libvpx", 5, 6}, {"openh264", 7, 8}}
	if err := b.Keep(want); err != nil {
		t.Fatal(err)
	}
	if got, ok := Open(path, coders).Known(); !ok || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, ok)
	}
	if _, ok := Open(path, coders[:1]).Known(); ok {
		t.Error("known for other coders")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for _, damaged := range [][]byte{nil, []byte("{"), make([]byte, fileLimit+1)} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, ok := b.Known(); ok {
			t.Errorf("%d damaged bytes are believed", len(damaged))
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("%d files are left, %v", len(entries), err)
	}
}
