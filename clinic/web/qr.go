package web

import (
	"fmt"
	"html/template"
	"strings"

	"github.com/skip2/go-qrcode"
)

// moduleSize is how many pixels a module is wide also on a phone: a whole number, or readers lose count of the modules.
const moduleSize = 3

// qr draws text as a QR code (ISO/IEC 18004), in SVG that stands in the page: the content policy lets no image in that has no address, and a
// secret should have none.
func qr(text, label string) (template.HTML, error) {
	code, err := qrcode.New(text, qrcode.Low) // the least redundancy: the modules are larger, and a screen is clean
	if err != nil {
		return "", fmt.Errorf("draw QR code: %w", err)
	}
	bitmap := code.Bitmap() // with its quiet zone
	var path strings.Builder
	for y, row := range bitmap {
		for x := 0; x < len(row); x++ {
			if !row[x] {
				continue
			}
			from := x
			for x < len(row) && row[x] {
				x++
			}
			fmt.Fprintf(&path, "M%d %dh%dv1h-%dz", from, y, x-from, x-from)
		}
	}
	return template.HTML(fmt.Sprintf( // of numbers and of what is escaped
		`<svg class="qr" role="img" aria-label="%s" width="%d" height="%[2]d" viewBox="0 0 %[3]d %[3]d" shape-rendering="crispEdges"><rect width="%[3]d" height="%[3]d" fill="#fff"/><path fill="#000" d="%[4]s"/></svg>`,
		template.HTMLEscapeString(label), moduleSize*len(bitmap), len(bitmap), path.String())), nil
}
