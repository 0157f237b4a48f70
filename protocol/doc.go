// Package protocol is what travels between a client and the server: the
// messages, the codes, the limits and the timings, and nothing that acts on them.
// PROTOCOL.md is its normative description; testdata/ holds one example of
// each message, read by the Go and the TypeScript tests.
//
//	client ── hello ────────────▶ server          client ◀── welcome ──────────── server
//	       ── ring ─────────────▶                        ◀── calling, ring ──────
//	       ── ringing, accept ──▶                        ◀── ringing, accept, elsewhere
//	       ── offer, answer, candidate, media ──▶ the other party, as they are
//	       ── decline, hangup ──▶                        ◀── ended ──────────────
//
// A frame is one JSON object. [Decode] reads the frames of either direction,
// [Encode] writes them; neither keeps anything. What Decode returns has been
// checked against every limit of this package, so that a handler need not.
package protocol
