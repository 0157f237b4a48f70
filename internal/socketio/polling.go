package socketio

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/visavis/visavis/protocol"
)

// separator stands between the packets of one request.
const separator = "\x1e"

func (c *connection) isWebSocket() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.socket != nil
}

// poll answers a request for packets as soon as there are any.
func (s *Server) poll(w http.ResponseWriter, r *http.Request, c *connection) {
	c.mu.Lock()
	overlap := c.polled
	c.polled = true
	c.mu.Unlock()
	if overlap {
		c.end(protocol.CloseBadMessage, "two requests at once")
		badRequest.answer(w)
		return
	}
	packets := c.take(true, r.Context().Done())
	c.mu.Lock()
	c.polled = false
	c.mu.Unlock()
	if packets == nil {
		c.end(protocol.CloseSilent, "the client went away")
		return
	}
	writeText(w, strings.Join(packets, separator))
}

// post takes packets of a client that has no WebSocket.
func (s *Server) post(w http.ResponseWriter, r *http.Request, c *connection) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(sendTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, protocol.MaxFrame))
	switch large := (*http.MaxBytesError)(nil); {
	case errors.As(err, &large):
		c.end(protocol.CloseTooLarge, "more than 128 KiB at once")
		http.Error(w, "more than 128 KiB at once", http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		c.end(protocol.CloseSilent, "the client went away")
		return
	}
	for packet := range strings.SplitSeq(string(body), separator) {
		c.receive(packet)
	}
	writeText(w, "ok")
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, text) // the client may be gone
}
