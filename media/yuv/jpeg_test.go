package yuv

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"os"
	"path/filepath"
	"testing"
)

func decoder(tb testing.TB) *Decoder {
	d, err := NewDecoder()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { d.Close() })
	return d
}

// encode returns a picture with some detail as baseline 4:2:0 JPEG.
func encode(tb testing.TB, w, h int) []byte {
	img := image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio420)
	for i := range img.Y {
		img.Y[i] = uint8(i%img.YStride) ^ uint8(i/img.YStride*3)&0x3F
	}
	for i := range img.Cb {
		img.Cb[i], img.Cr[i] = uint8(96+i%64), uint8(160-i%64)
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 80}); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func file(tb testing.TB, name string) []byte {
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// without removes every marker segment of one kind, as cameras leave the Huffman tables out.
func without(data []byte, marker byte) []byte {
	out := append([]byte(nil), data[:2]...)
	for i := 2; i+4 <= len(data); {
		n := 2 + int(data[i+2])<<8 + int(data[i+3])
		if data[i+1] == 0xDA {
			return append(out, data[i:]...)
		}
		if data[i+1] != marker {
			out = append(out, data[i:i+n]...)
		}
		i += n
	}
	return out
}

// limited is what #c02020 and #2020c0 are in BT.601, limited range.
var (
	limitedRed  = color.YCbCr{Y: 84, Cb: 104, Cr: 198}
	limitedBlue = color.YCbCr{Y: 59, Cb: 198, Cr: 116}
)

func TestDecode(t *testing.T) {
	d := decoder(t)
	for _, name := range []string{"halves-420.jpg", "halves-422.jpg", "halves-444.jpg", "halves-440.jpg"} {
		data := file(t, name)
		for _, c := range []struct {
			name string
			w, h int
			data []byte
		}{
			{"same size", 64, 48, data},
			{"halved", 32, 24, data},
			{"quarter", 16, 12, data},
			{"odd", 51, 33, data},
			{"enlarged", 160, 120, data},
			{"no Huffman tables", 64, 48, without(data, 0xC4)},
			{"stray bytes after the end", 64, 48, append(bytes.Clone(data), 0, 0, 0, 0)},
		} {
			t.Run(name+" "+c.name, func(t *testing.T) {
				got := New(c.w, c.h)
				if err := d.Decode(got, c.data); err != nil {
					t.Fatal(err)
				}
				wantAt(t, got, 2, c.h-1, limitedRed, 3)
				wantAt(t, got, c.w-3, c.h-1, limitedBlue, 3)
				wantAt(t, got, 2, 0, limitedRed, 3)
				if w, h, err := d.Size(c.data); w != 64 || h != 48 || err != nil {
					t.Errorf("Size = %d, %d, %v", w, h, err)
				}
			})
		}
	}
}

func TestDecodeGrey(t *testing.T) {
	grey := image.NewGray(image.Rect(0, 0, 40, 30))
	for i := range grey.Pix {
		grey.Pix[i] = 255
	}
	var b bytes.Buffer
	must(jpeg.Encode(&b, grey, nil))
	got := New(40, 30)
	if err := decoder(t).Decode(got, b.Bytes()); err != nil {
		t.Fatal(err)
	}
	wantAt(t, got, 20, 20, color.YCbCr{Y: 235, Cb: 128, Cr: 128}, 0)
}

func TestDecodeDamaged(t *testing.T) {
	d := decoder(t)
	good := encode(t, 64, 48)
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":     {nil, ErrShape},
		"not a jpeg":  {[]byte("this is no picture"), ErrCorrupt},
		"cut short":   {good[:len(good)*2/3], ErrCorrupt},
		"header only": {good[:40], ErrCorrupt},
		"progressive": {file(t, "progressive.jpg"), ErrFormat},
		"cmyk":        {file(t, "cmyk.jpg"), ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			if err := d.Decode(New(64, 48), c.data); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if err := d.Decode(New(64, 48), good); err != nil {
				t.Errorf("the next good picture: %v", err)
			}
		})
	}
	closed := decoder(t)
	closed.Close()
	if err := closed.Decode(New(64, 48), good); !errors.Is(err, ErrShape) {
		t.Errorf("after Close: error %v", err)
	}
}

func TestLimit(t *testing.T) {
	for name, c := range map[string]struct{ in, want color.YCbCr }{
		"white": {color.YCbCr{Y: 255, Cb: 128, Cr: 128}, color.YCbCr{Y: 235, Cb: 128, Cr: 128}},
		"black": {color.YCbCr{Y: 0, Cb: 128, Cr: 128}, color.YCbCr{Y: 16, Cb: 128, Cr: 128}},
		"edges": {color.YCbCr{Y: 128, Cb: 0, Cr: 255}, color.YCbCr{Y: 126, Cb: 16, Cr: 240}},
	} {
		t.Run(name, func(t *testing.T) {
			img := New(33, 5)
			must(Fill(img, img.Rect, c.in.Y, c.in.Cb, c.in.Cr))
			must(Limit(img))
			wantAt(t, img, 0, 0, c.want, 0)
			wantAt(t, img, 32, 4, c.want, 0)
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, name := range []string{"halves-420.jpg", "halves-422.jpg", "halves-440.jpg", "progressive.jpg"} {
		f.Add(file(f, name))
	}
	f.Add(without(file(f, "halves-420.jpg"), 0xC4))
	d := decoder(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		// A header may promise far more than the data holds; large ones only cost time.
		if w, h, err := d.Size(data); err != nil || w > 512 || h > 512 {
			return
		}
		err := d.Decode(New(48, 32), data)
		for _, documented := range []error{nil, ErrCorrupt, ErrFormat, ErrShape} {
			if errors.Is(err, documented) {
				return
			}
		}
		t.Fatalf("undocumented error %v", err)
	})
}
