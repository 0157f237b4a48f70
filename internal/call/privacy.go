package call

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/visavis/visavis/protocol"
)

// Before accept nobody learns an address of the other party: only candidates of our
// relay pass. RFC 8839 §5.1 has their form. For a party that hides its addresses this
// holds after accept, too.

// hidden reports whether a party shows nothing but relayed addresses now.
func (c *Call) hidden(s *side) bool { return c.state < Active || s.hides }

// guard takes out of what a step sends the addresses that a party hides, and has the relay
// permit those that it shows, before the message goes to the one who will want to reach them.
func (c *Call) guard(out []Output) []Output {
	guarded := make([]Output, 0, len(out)+2)
	only := c.hidden(&c.caller) && c.hidden(&c.callee)
	if (c.state == Ringing || c.state == Active) && only != c.relayed {
		c.relayed = only
		guarded = append(guarded, RelayOnly{c.ID, only}) // before anybody hears what follows from it
	}
	for _, o := range out {
		switch o := o.(type) {
		case Send:
			from := c.from(o.Session)
			if c.hidden(from) {
				o.Message = onlyRelayed(o.Message)
			}
			if o.Message == nil {
				continue
			}
			if addrs, shows := shown(o.Message); shows {
				guarded = append(guarded, c.permit(from, addrs))
			}
			guarded = append(guarded, o)
		case Keep:
			guarded = append(guarded, o, c.permit(&c.caller, nil), c.permit(&c.callee, nil))
		default:
			guarded = append(guarded, o)
		}
	}
	return guarded
}

// from is the party whose message goes to a session.
func (c *Call) from(to protocol.SessionID) *side {
	if to == c.caller.session {
		return &c.callee
	}
	return &c.caller
}

// permit lets a party's addresses be reached over the relay. Where it signals from stands in
// for what its browser does not show.
func (c *Call) permit(s *side, addrs []netip.Addr) Permit {
	if !c.hidden(s) && s.address.IsValid() {
		addrs = append(addrs, s.address)
	}
	return Permit{c.ID, s.user.ID, addrs}
}

// usual is how many fields a browser's candidate has at most: a slice for so many is
// no garbage.
const usual = 24

// isRelayed reports whether a candidate shows the relay's address only. Its
// related address (raddr) would show its owner's: under relay-only Chromium leaves
// that out, and Firefox says the relayed one again; withoutRelated does so for others.
func isRelayed(candidate string) bool {
	fields := slices.AppendSeq(make([]string, 0, usual), strings.FieldsSeq(candidate))
	typ := slices.Index(fields, "typ")
	if typ < 6 || typ+1 >= len(fields) || fields[typ+1] != "relay" { // behind the address and port
		return false
	}
	raddr := slices.Index(fields, "raddr")
	return raddr < 0 || raddr+1 < len(fields) && slices.Contains([]string{"0.0.0.0", "::", fields[4]}, fields[raddr+1])
}

func relayed(candidates []protocol.Candidate) []protocol.Candidate {
	var out []protocol.Candidate
	for _, c := range candidates {
		if c.Candidate = withoutRelated(c.Candidate); isRelayed(c.Candidate) {
			out = append(out, c)
		}
	}
	return out
}

// direct are the candidates that relayed leaves out, with the end of candidates.
func direct(candidates []protocol.Candidate) []protocol.Candidate {
	return slices.DeleteFunc(slices.Clone(candidates), func(c protocol.Candidate) bool { return isRelayed(withoutRelated(c.Candidate)) })
}

// inline are the candidates within a description that withoutAddresses takes out.
func inline(d protocol.Description) []protocol.Candidate {
	var out []protocol.Candidate
	section := -1
	sections := map[int]string{}
	for line := range strings.Lines(d.SDP) {
		text := strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(text, "m="):
			section++
		case strings.HasPrefix(text, "a=mid:"):
			sections[section] = strings.TrimPrefix(text, "a=mid:")
		case strings.HasPrefix(text, "a=candidate:") && section >= 0:
			if candidate := strings.TrimPrefix(text, "a="); !isRelayed(withoutRelated(candidate)) && len(out) < protocol.MaxCandidates {
				index := uint16(section) //nolint:gosec // a description of 64 KiB has fewer
				out = append(out, protocol.Candidate{Candidate: candidate, SDPMLineIndex: &index})
			}
		}
	}
	for i := range out {
		if mid, ok := sections[int(*out[i].SDPMLineIndex)]; ok {
			out[i].SDPMid = &mid
		}
	}
	return out
}

// shown are the addresses in what a party sends to the other one, and whether it
// is of a kind that shows any. Names (mDNS) are left out.
func shown(m protocol.Message) ([]netip.Addr, bool) {
	var candidates []string
	switch m := m.(type) {
	case *protocol.Offer:
		candidates = candidateLines(m.Description)
	case *protocol.Answer:
		candidates = candidateLines(m.Description)
	case *protocol.Candidates:
		for _, c := range m.Candidates {
			candidates = append(candidates, c.Candidate)
		}
	default:
		return nil, false
	}
	var addrs []netip.Addr
	for _, c := range candidates {
		// candidate:foundation component transport priority address port … (RFC 8839 §5.1)
		if fields := slices.AppendSeq(make([]string, 0, usual), strings.FieldsSeq(c)); len(fields) > 4 {
			if addr, err := netip.ParseAddr(fields[4]); err == nil && !slices.Contains(addrs, addr) {
				addrs = append(addrs, addr)
			}
		}
	}
	return addrs, true
}

func candidateLines(d protocol.Description) []string {
	var all []string
	for line := range strings.Lines(d.SDP) {
		if c, ok := strings.CutPrefix(line, "a=candidate:"); ok && len(all) < protocol.MaxCandidates {
			all = append(all, c)
		}
	}
	return all
}

// onlyRelayed is a message of a call that is relayed only, as the other party gets
// it; nil when there is nothing left of it. The browser of a party that does not
// itself hide has more to say than its relayed addresses, and says with these
// what they stand for.
func onlyRelayed(m protocol.Message) protocol.Message {
	switch m := m.(type) {
	case *protocol.Offer:
		n := *m
		n.Description.SDP = relayedOnly(withoutRelated(m.Description.SDP))
		return &n
	case *protocol.Answer:
		n := *m
		n.Description.SDP = relayedOnly(withoutRelated(m.Description.SDP))
		return &n
	case *protocol.Candidates:
		n := *m
		n.Candidates = nil
		for _, c := range m.Candidates {
			if c.Candidate = withoutRelated(c.Candidate); c.Candidate == "" || isRelayed(c.Candidate) {
				n.Candidates = append(n.Candidates, c)
			}
		}
		if len(n.Candidates) == 0 {
			return nil
		}
		return &n
	}
	return m
}

// related is what a relayed candidate says of its owner (RFC 8839 §5.1).
var related = regexp.MustCompile(`(?i)( typ relay\b.*?) raddr \S+ rport \S+`)

// withoutRelated is a candidate, or a description with several, whose relayed ones
// say nothing of their owner, as browsers do where they hide.
func withoutRelated(text string) string {
	return related.ReplaceAllString(text, "$1 raddr 0.0.0.0 rport 0")
}

// withoutAddresses is a description whose candidates are the relay's only.
func withoutAddresses(d protocol.Description) protocol.Description {
	d.SDP = relayedOnly(withoutRelated(d.SDP))
	return d
}

func relayedOnly(sdp string) string {
	var kept strings.Builder
	for line := range strings.Lines(sdp) {
		switch text := strings.TrimRight(line, "\r\n"); {
		case strings.HasPrefix(text, "a=candidate:") && !isRelayed(strings.TrimPrefix(text, "a=")):
		case strings.HasPrefix(text, "o="), strings.HasPrefix(text, "a=rtcp:"), strings.HasPrefix(text, "c=IN "):
			kept.WriteString(neutral(text) + line[len(text):])
		default:
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// neutral is an origin, connection or rtcp line with the address that browsers write
// before they know one (RFC 8840 §4.3.1): with trickled candidates nobody reads it.
func neutral(line string) string {
	if strings.HasPrefix(line, "c=IN ") {
		return "c=IN IP4 0.0.0.0"
	}
	if i := strings.Index(line, " IN "); i >= 0 {
		return line[:i] + " IN IP4 0.0.0.0"
	}
	return line
}
