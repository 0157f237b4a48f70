package call

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/visavis/visavis/protocol"
)

// Before accept no party learns an address of the other one: only candidates of our relay
// pass. For a party that hides its addresses this holds after accept, too. RFC 8839 §5.1
// defines the form of a candidate.

// hidden reports whether a party shows only relayed addresses now.
func (c *Call) hidden(s *side) bool { return c.state < Active || s.hides }

// filterAddresses removes the addresses that a party hides from the messages of a step. Before
// a message that shows addresses it inserts a [Permit] for them, so that the relay knows them
// when the receiver wants to reach them.
func (c *Call) filterAddresses(out []Output) []Output {
	filtered := make([]Output, 0, len(out)+2)
	only := c.hidden(&c.caller) && c.hidden(&c.callee)
	if (c.state == Ringing || c.state == Active) && only != c.relayed {
		c.relayed = only
		filtered = append(filtered, RelayOnly{c.ID, only}) // before the messages that depend on it
	}
	for _, o := range out {
		switch o := o.(type) {
		case Send:
			from := c.senderTo(o.Session)
			if c.hidden(from) {
				o.Message = onlyRelayed(o.Message)
			}
			if o.Message == nil {
				continue
			}
			if addrs, shows := shown(o.Message); shows {
				filtered = append(filtered, c.permit(from, addrs))
			}
			filtered = append(filtered, o)
		case Keep:
			filtered = append(filtered, o, c.permit(&c.caller, nil), c.permit(&c.callee, nil))
		default:
			filtered = append(filtered, o)
		}
	}
	return filtered
}

// senderTo returns the party whose message goes to a session.
func (c *Call) senderTo(to protocol.SessionID) *side {
	if to == c.caller.session {
		return &c.callee
	}
	return &c.caller
}

// permit returns the output that permits a party's addresses. It includes the client address
// of the party's session, because a browser may show none of its own.
func (c *Call) permit(s *side, addrs []netip.Addr) Permit {
	if !c.hidden(s) && s.address.IsValid() {
		addrs = append(addrs, s.address)
	}
	return Permit{c.ID, s.user.ID, addrs}
}

// usual is the number of fields that a browser's candidate has at most. A slice of that
// constant capacity stays on the stack.
const usual = 24

// isRelayed reports whether a candidate shows only an address of the relay. Its related
// address (raddr) could show that of the client. Under a relay-only policy Chromium leaves
// raddr out, and Firefox repeats the relayed address. withoutRelated neutralizes others.
func isRelayed(candidate string) bool {
	fields := slices.AppendSeq(make([]string, 0, usual), strings.FieldsSeq(candidate))
	typ := slices.Index(fields, "typ")
	if typ < 6 || typ+1 >= len(fields) || fields[typ+1] != "relay" { // behind the address and port
		return false
	}
	raddr := slices.Index(fields, "raddr")
	return raddr < 0 || raddr+1 < len(fields) && slices.Contains([]string{"0.0.0.0", "::", fields[4]}, fields[raddr+1])
}

// relayed returns the relayed candidates, without their related addresses.
func relayed(candidates []protocol.Candidate) []protocol.Candidate {
	var out []protocol.Candidate
	for _, c := range candidates {
		if c.Candidate = withoutRelated(c.Candidate); isRelayed(c.Candidate) {
			out = append(out, c)
		}
	}
	return out
}

// direct returns the candidates that relayed leaves out, among them the end of candidates.
func direct(candidates []protocol.Candidate) []protocol.Candidate {
	return slices.DeleteFunc(slices.Clone(candidates), func(c protocol.Candidate) bool { return isRelayed(withoutRelated(c.Candidate)) })
}

// inline returns the candidates within a description that withoutAddresses removes.
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

// shown returns the addresses in a message to the other party. ok is false for a type of
// message that has none. mDNS names are left out.
func shown(m protocol.Message) (addrs []netip.Addr, ok bool) {
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

// onlyRelayed returns a copy of a message with only its relayed candidates, and nil if no
// candidate is left in a message of candidates. It also removes related addresses: the
// browser of a party that does not use a relay-only policy puts its own address there.
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

// related matches the related address of a relayed candidate (RFC 8839 §5.1).
var related = regexp.MustCompile(`(?i)( typ relay\b.*?) raddr \S+ rport \S+`)

// withoutRelated replaces the related addresses of relayed candidates by 0.0.0.0, as
// browsers do under a relay-only policy. text is a candidate or a description.
func withoutRelated(text string) string {
	return related.ReplaceAllString(text, "$1 raddr 0.0.0.0 rport 0")
}

// withoutAddresses returns a description with only its relayed candidates.
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

// neutral returns an origin, connection or rtcp line with the address 0.0.0.0, which
// browsers write before they have a candidate (RFC 8840 §4.3.1). With trickled candidates
// no browser reads that address.
func neutral(line string) string {
	if strings.HasPrefix(line, "c=IN ") {
		return "c=IN IP4 0.0.0.0"
	}
	if i := strings.Index(line, " IN "); i >= 0 {
		return line[:i] + " IN IP4 0.0.0.0"
	}
	return line
}
