package protocol

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// check accepts only what a call between two browsers can have: encrypted media and data
// under a single certificate. It looks at the lines that matter and leaves the rest of the
// grammar to the browsers. The error names the line, and what would be right.
func (d *Description) check(kind string) error {
	switch {
	case d.Type != kind:
		return Errorf(CodeBadDescription, "the type of the description is not "+kind)
	case len(d.SDP) > MaxSDP:
		return Errorf(CodeBadDescription, "the description is larger than 64 KiB")
	case !strings.HasPrefix(d.SDP, "v=0") || !utf8.ValidString(d.SDP):
		return Errorf(CodeBadDescription, "the description is no SDP: it does not begin with v=0, or is no UTF-8")
	}
	var c descriptionCheck
	for line := range strings.Lines(d.SDP) {
		c.number++
		if err := c.line(strings.TrimRight(line, "\r\n")); err != nil {
			return err
		}
	}
	if c.section == nil {
		return Errorf(CodeBadDescription, "the description has no media section (m=)")
	}
	return c.endSection()
}

// descriptionCheck reads a description line by line.
type descriptionCheck struct {
	number  int                      // of the line, from 1
	session section                  // what stands before the first media section and holds for each
	section *section                 // the media section that the line belongs to
	used    [len(hashes)]fingerprint // of the sections that count, by their hash
}

// section is a media section, or the lines before the first.
type section struct {
	number       int    // of its m= line
	media        string // the first word of that
	transport    string
	port0        bool // rejected (RFC 3264 §6), unless it is bundle-only (RFC 8843 §6)
	bundleOnly   bool
	keys         int // the line of an a=crypto; 0 is none
	fingerprints []fingerprint
	weak         string // a hash that nobody should use any more
}

type fingerprint struct {
	number int // of its line
	hash   int // in hashes
	value  string
}

// hashes are those that fingerprints are believed by, the weakest first. Others may stand
// beside them (RFC 8122 §5).
var hashes = [...]string{"sha-256", "sha-384", "sha-512"}

func (c *descriptionCheck) line(text string) error {
	s := c.section
	if s == nil {
		s = &c.session
	}
	switch {
	case strings.HasPrefix(text, "m="):
		if err := c.endSection(); err != nil {
			return err
		}
		fields := strings.Fields(strings.TrimPrefix(text, "m="))
		if len(fields) < 3 {
			return c.bad(c.number, "a media section has a kind, a port and a transport")
		}
		c.section = &section{number: c.number, media: fields[0], port0: fields[1] == "0", transport: fields[2]}
	case text == "a=bundle-only":
		s.bundleOnly = true
	case strings.HasPrefix(text, "a=crypto:"):
		s.keys = c.number
	case strings.HasPrefix(text, "a=fingerprint:"):
		hash, value, _ := strings.Cut(strings.ToLower(strings.TrimPrefix(text, "a=fingerprint:")), " ")
		if i := slices.Index(hashes[:], hash); i >= 0 {
			s.fingerprints = append(s.fingerprints, fingerprint{c.number, i, value})
		} else {
			s.weak = hash
		}
	}
	if c.section == nil && c.session.keys > 0 {
		return c.badKeys(c.session.keys)
	}
	return nil
}

// endSection checks the media section that ends before this line. A rejected one does not
// count: whatever it says, nothing flows by it.
func (c *descriptionCheck) endSection() error {
	s := c.section
	if s == nil || s.port0 && !s.bundleOnly {
		return nil
	}
	if !encryptedTransport(s.transport) { // RFC 8827 §6.5
		return c.bad(s.number, fmt.Sprintf(
			"m=%s by %s is not encrypted with DTLS; use UDP/TLS/RTP/SAVPF or UDP/DTLS/SCTP", excerpt(s.media), excerpt(s.transport)))
	}
	if s.keys > 0 {
		return c.badKeys(s.keys)
	}
	fingerprints := slices.Concat(c.session.fingerprints, s.fingerprints) // the session's hold for each section
	weak := cmp.Or(s.weak, c.session.weak)
	if len(fingerprints) == 0 {
		sentence := "m=" + excerpt(s.media) + " has no fingerprint; sha-256, sha-384 or sha-512 is needed"
		if weak != "" {
			sentence += ", and not only " + excerpt(weak)
		}
		return c.bad(s.number, sentence)
	}
	for _, f := range fingerprints {
		used := &c.used[f.hash]
		if used.number == 0 {
			*used = f
		}
		if used.value != f.value {
			return c.bad(f.number, fmt.Sprintf(
				"another %s fingerprint than on line %d; a description has one certificate", hashes[f.hash], used.number))
		}
	}
	return nil
}

func (c *descriptionCheck) badKeys(number int) error { // RFC 8827 §6.5
	return c.bad(number, "a=crypto is refused: keys come from DTLS, not from the description")
}

func (*descriptionCheck) bad(number int, sentence string) error {
	return Errorf(CodeBadDescription, fmt.Sprintf("line %d of the description: %s", number, sentence))
}

// excerpt is a word of a description as an error may repeat it.
func excerpt(word string) string {
	const longest = 40
	if len(word) > longest {
		return strings.ToValidUTF8(word[:longest], "") + "…"
	}
	return word
}

func encryptedTransport(proto string) bool {
	switch proto {
	case "UDP/TLS/RTP/SAVPF", "TCP/TLS/RTP/SAVPF", "UDP/DTLS/SCTP", "TCP/DTLS/SCTP":
		return true
	}
	return false
}
