package socketio

import (
	"strings"

	"github.com/visavis/visavis/protocol"
)

// peerConnectionOf returns the session id in the "o=" line of a description. Each peer connection
// has one of its own (RFC 8829 §5.2.1).
func peerConnectionOf(sdp string) string {
	for line := range strings.Lines(sdp) {
		if origin, ok := strings.CutPrefix(line, "o="); ok {
			if fields := strings.Fields(origin); len(fields) > 1 {
				return fields[1]
			}
		}
	}
	return ""
}

// hasVideo reports whether a description has video that is not refused. Port 0 refuses it.
func hasVideo(sdp string) bool {
	for line := range strings.Lines(sdp) {
		if strings.HasPrefix(line, "m=video ") && !strings.HasPrefix(line, "m=video 0 ") {
			return true
		}
	}
	return false
}

// belongs reports whether a candidate may belong to a description. A candidate that names
// another generation is a leftover (RFC 8839 §5.4).
func belongs(c protocol.Candidate, sdp string) bool {
	fragment := ""
	if c.UsernameFragment != nil {
		fragment = *c.UsernameFragment
	} else if _, after, ok := strings.Cut(c.Candidate, " ufrag "); ok {
		fragment, _, _ = strings.Cut(after, " ")
	}
	return fragment == "" || strings.Contains(sdp, "a=ice-ufrag:"+fragment+"\r\n") ||
		strings.Contains(sdp, "a=ice-ufrag:"+fragment+"\n")
}
