package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"rsc.io/qr"
)

// quietZone is the light border that readers need (ISO/IEC 18004: 4 modules).
const quietZone = 4

// drawQR draws text as a QR code, two modules to a character. With colors it is
// dark on light whatever the terminal's own are; without, it is that on a dark
// background, and reversed on a light one, which phones read as well.
func drawQR(w io.Writer, text string, colors bool) error {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return fmt.Errorf("make a QR code: %w", err)
	}
	var drawing strings.Builder
	for y := -quietZone; y < code.Size+quietZone; y += 2 {
		if colors {
			drawing.WriteString("\x1b[38;5;231;48;5;16m") // white on black of the fixed 256
		}
		for x := -quietZone; x < code.Size+quietZone; x++ {
			upper, lower := !code.Black(x, y), !code.Black(x, y+1)
			switch {
			case upper && lower:
				drawing.WriteRune('█')
			case upper:
				drawing.WriteRune('▀')
			case lower:
				drawing.WriteRune('▄')
			default:
				drawing.WriteRune(' ')
			}
		}
		if colors {
			drawing.WriteString("\x1b[0m")
		}
		drawing.WriteByte('\n')
	}
	_, err = io.WriteString(w, drawing.String())
	return err
}

// terminal reports whether w is shown to someone right now.
func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
