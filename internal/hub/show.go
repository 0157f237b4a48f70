package hub

import (
	"time"

	"github.com/visavis/visavis/protocol"
)

// showLocked records whether the user sees the page of a session, and on which device.
func (h *Hub) showLocked(s *session, device string, visible bool) {
	before := s.shows
	if s.shows = ""; visible {
		s.shows = device
	}
	if before == "" || before == s.shows {
		return
	}
	h.eventLocked(s, h.handler.PageHidden)
}

// Shown returns the devices on which a user sees a page. A page counts if it is connected
// and was last heard at or after since.
func (h *Hub) Shown(id protocol.UserID, since time.Time) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := h.users[id]
	if u == nil {
		return nil
	}
	var devices []string
	for _, s := range u.sessions {
		if s.line != nil && s.shows != "" && !s.line.seen.Before(since) {
			devices = append(devices, s.shows)
		}
	}
	return devices
}
