package web

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/skip2/go-qrcode"
)

// What is drawn is, module by module, the code of the text.
func TestQR(t *testing.T) {
	text := "vindu-voucher-1." + strings.Repeat("aZ0-_", 170)
	drawn, err := qr(text, `<"label">`)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(drawn), `<"label">`) {
		t.Error("the label is not escaped")
	}
	code, err := qrcode.New(text, qrcode.Low)
	if err != nil {
		t.Fatal(err)
	}
	want := code.Bitmap()
	dark := map[[2]int]bool{}
	for _, m := range regexp.MustCompile(`M(\d+) (\d+)h(\d+)v1h-(\d+)z`).FindAllStringSubmatch(string(drawn), -1) {
		var x, y, n, back int
		if _, err := fmt.Sscan(strings.Join(m[1:], " "), &x, &y, &n, &back); err != nil || n != back {
			t.Fatal(m, err)
		}
		for i := range n {
			dark[[2]int{x + i, y}] = true
		}
	}
	for y, row := range want {
		for x := range row {
			if dark[[2]int{x, y}] != row[x] {
				t.Fatalf("module %d,%d is drawn %v", x, y, dark[[2]int{x, y}])
			}
		}
	}
	if _, err := qr(strings.Repeat("a", 4000), ""); err == nil {
		t.Error("a text that does not fit is drawn")
	}
}
